//! The checks of settings: a value that would make a server or client useless is refused with a message.

use std::time::Duration;

use procbridge_proto::Limits;

use crate::config::token::Token;
use crate::error::{Error, ErrorKind};

/// Refuses limits that no packet could meet.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), Error> {
    if limits.max_body() < EMPTY_BODY {
        return Err(refused(format!("max_body is {}, and a body has at least 2 bytes", limits.max_body())));
    }
    is_positive("max_depth", limits.max_depth())
}

pub(crate) fn check_token(token: Option<&Token>) -> Result<(), Error> {
    match token {
        // A request without a token would match it.
        Some(token) if token.text().is_empty() => Err(refused("the token is empty")),
        _ => Ok(()),
    }
}

pub(crate) fn is_positive<N: Default + PartialEq>(setting: &str, value: N) -> Result<(), Error> {
    if value == N::default() { Err(refused(format!("{setting} is 0, the least is 1"))) } else { Ok(()) }
}

/// Refuses a timeout of zero, which ends everything before it begins. `advice` tells what may have been meant.
pub(crate) fn has_time(setting: &str, limit: Option<Duration>, advice: &str) -> Result<(), Error> {
    let is_zero = limit.is_some_and(|limit| limit.is_zero());
    if is_zero { Err(refused(format!("{setting} is zero{advice}"))) } else { Ok(()) }
}

pub(crate) fn refused(reason: impl std::fmt::Display) -> Error {
    Error::unsent(ErrorKind::InvalidInput, format!("the settings cannot work: {reason}"))
}

/// The advice for a setting that `None` turns off.
pub(crate) const NONE: &str = "; None turns it off";

/// Returns the interval of a repeated timer: at least [`SHORTEST`].
pub(crate) fn no_shorter(time: Option<Duration>) -> Option<Duration> {
    time.map(|time| time.max(SHORTEST))
}

/// The size of the body `{}`.
const EMPTY_BODY: u32 = 2;
/// A shorter keepalive interval would end sessions of live peers: a loaded machine may delay a thread by some 10 ms.
const SHORTEST: Duration = Duration::from_millis(100);

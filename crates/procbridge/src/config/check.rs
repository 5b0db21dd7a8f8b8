//! What settings may be: a value that would make a server or client useless is refused with words.

use std::time::Duration;

use procbridge_proto::Limits;

use crate::config::token::Token;
use crate::error::{Error, ErrorKind};

/// Refuses limits that no packet could keep.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), Error> {
    if limits.max_body() < EMPTY_BODY {
        return Err(refused(format!("max_body is {}, and a body has at least 2 bytes", limits.max_body())));
    }
    is_positive("max_depth", limits.max_depth())
}

pub(crate) fn check_token(token: Option<&Token>) -> Result<(), Error> {
    match token {
        // A request without a token would have this one.
        Some(token) if token.text().is_empty() => Err(refused("the token is empty")),
        _ => Ok(()),
    }
}

pub(crate) fn is_positive<N: Default + PartialEq>(setting: &str, value: N) -> Result<(), Error> {
    if value == N::default() { Err(refused(format!("{setting} is 0, the least is 1"))) } else { Ok(()) }
}

/// Refuses a time limit of zero, under which everything ends before it begins. `advice` tells what may have been meant.
pub(crate) fn has_time(setting: &str, limit: Option<Duration>, advice: &str) -> Result<(), Error> {
    let is_zero = limit.is_some_and(|limit| limit.is_zero());
    if is_zero { Err(refused(format!("{setting} is zero{advice}"))) } else { Ok(()) }
}

pub(crate) fn refused(reason: impl std::fmt::Display) -> Error {
    Error::unsent(ErrorKind::InvalidInput, format!("the settings cannot work: {reason}"))
}

/// A time that is counted again and again: nothing if it is zero, and no shorter than [`SHORTEST`].
pub(crate) fn no_shorter(time: Duration) -> Option<Duration> {
    Some(time.max(SHORTEST)).filter(|_| !time.is_zero())
}

/// The body `{}`.
const EMPTY_BODY: u32 = 2;
/// A heartbeat of less would end sessions of peers that live: a loaded machine keeps a thread waiting for some 10 ms.
const SHORTEST: Duration = Duration::from_millis(100);

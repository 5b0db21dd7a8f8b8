//! A timeout.

use std::time::Duration;

use crate::args::duration::parse_duration;

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    After(Duration),
    /// Spelt out as `none`: whoever waits for ever has said so.
    Never,
}

/// Reads `200ms`, `1.5s`, `2m`, `1h`, or `none`.
pub(crate) fn parse_timeout(text: &str) -> Result<Timeout, String> {
    if text == "none" { Ok(Timeout::Never) } else { parse_duration(text).map(Timeout::After) }
}

//! Timeouts.

use std::time::Duration;

use crate::args::duration::parse_duration;

/// A timeout of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    After(Duration),
    /// Written as `none`, so that waiting without a bound is explicit.
    Never,
}

/// Parses `200ms`, `1.5s`, `2m`, `1h`, or `none`.
pub(crate) fn parse_timeout(text: &str) -> Result<Timeout, String> {
    if text == "none" { Ok(Timeout::Never) } else { parse_duration(text).map(Timeout::After) }
}

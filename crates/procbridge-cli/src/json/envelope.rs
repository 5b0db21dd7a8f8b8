//! The envelope of `--json`, as it is for a success.

use std::time::Duration;

use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;

/// Returns the envelope of a result, to which a command may add members of its own.
pub(crate) fn success(payload: &str, elapsed: Duration) -> Object {
    Object::new()
        .member("ok", "true")
        .member("payload", lay_out(payload, Layout::Compact))
        .member("elapsed_us", elapsed.as_micros())
}

//! Envelopes a result.

use std::time::Duration;

use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;

/// The envelope of a success, for programs; what is particular to a command may be added.
pub(crate) fn success(payload: &str, elapsed: Duration) -> Object {
    Object::new()
        .member("ok", "true")
        .member("payload", &lay_out(payload, Layout::Compact))
        .member("elapsed_us", &elapsed.as_micros().to_string())
}

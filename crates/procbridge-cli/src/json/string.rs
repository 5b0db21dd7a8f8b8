//! JSON strings.

use serde_json::Value;

/// Returns `text` as a JSON string, quotes included.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

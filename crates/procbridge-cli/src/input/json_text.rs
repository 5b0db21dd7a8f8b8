//! Checks that text is JSON, and tells where it is not.

use serde_json::value::RawValue;

use crate::error::CliError;
use crate::json::string::quote;
use crate::text::byte_order_mark::strip_byte_order_mark;

/// Returns `text` as JSON, without a byte order mark. `name` names the text in errors.
pub(crate) fn parse_json(name: &str, text: &str) -> Result<Box<RawValue>, CliError> {
    let text = strip_byte_order_mark(text);
    if text.trim().is_empty() {
        return Err(CliError::usage(format!("{name} is empty"))
            .with_hint("a call without a payload has no argument after the method"));
    }
    serde_json::from_str::<&RawValue>(text)
        .map(ToOwned::to_owned)
        .map_err(|error| not_json(name, text, &error))
}

/// Returns `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> Result<Box<RawValue>, CliError> {
    parse_json("the payload", &quote(text))
}

/// Returns `text` as an argument for the shell.
pub(crate) fn shell_quote(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

/// Returns the error that tells where `text` stops being JSON.
fn not_json(name: &str, text: &str, error: &serde_json::Error) -> CliError {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        let reason = reason.strip_prefix("EOF while parsing ").unwrap_or("a value");
        return CliError::usage(format!("{name} is not JSON: it ends inside {reason}"));
    }
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let mut start = error.column().saturating_sub(1).min(line.len());
    while !line.is_char_boundary(start) {
        start -= 1;
    }
    let mut here: String = line.get(start..).unwrap_or_default().chars().take(MAX_EXCERPT).collect();
    if line.len() > start + here.len() {
        here.push_str("...");
    }
    let position = match text.contains('\n') {
        true => format!("line {}, column {}", error.line(), error.column()),
        false => format!("column {}", error.column()),
    };
    CliError::usage(format!("{name} is not JSON: {reason} at {position}, here: {here}"))
}

/// The number of characters that an error shows of the text.
const MAX_EXCERPT: usize = 24;

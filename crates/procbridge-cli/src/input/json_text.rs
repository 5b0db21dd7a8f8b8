//! Checks JSON.

use serde_json::value::RawValue;

use crate::error::CliError;
use crate::text::byte_order_mark::strip_byte_order_mark;

pub(crate) fn string(text: &str) -> Result<Box<RawValue>, CliError> {
    let mut json_text = String::new();
    crate::json::object::push_quoted(&mut json_text, text);
    json("the payload", json_text)
}

/// Reads JSON. Some programs write a byte order mark before it, which is no part of the text.
pub(crate) fn json(what: &str, mut text: String) -> Result<Box<RawValue>, CliError> {
    let mark = text.len() - strip_byte_order_mark(&text).len();
    text.drain(..mark);
    if text.trim().is_empty() {
        return Err(CliError::usage(format!("{what} is empty"))
            .with_hint("a call without a payload has no argument behind the method"));
    }
    // The text is needed for the error only, and to copy a large one for it would be a waste.
    if let Err(error) = serde_json::from_str::<&RawValue>(&text) {
        return Err(not_json(what, &text, &error));
    }
    RawValue::from_string(text).map_err(|error| CliError::usage(format!("{what} is not JSON: {error}")))
}

/// Says where `text` stops being JSON.
pub(crate) fn not_json(what: &str, text: &str, error: &serde_json::Error) -> CliError {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        let reason = reason.strip_prefix("EOF while parsing ").unwrap_or("a value");
        return CliError::usage(format!("{what} is not JSON: it ends inside {reason}"));
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
    let place = match text.contains('\n') {
        true => format!("line {}, column {}", error.line(), error.column()),
        false => format!("column {}", error.column()),
    };
    CliError::usage(format!("{what} is not JSON: {reason} at {place}, here: {here}"))
}

/// What may have been meant by a single word that is not JSON.
pub(crate) fn json_hint(word: &str) -> String {
    if word.starts_with(['{', '[', '"']) {
        return "JSON is one argument in single quotes, which keep the shell away from it: '{\"key\":\"value\"}'"
            .to_string();
    }
    let mut json_text = String::new();
    crate::json::object::push_quoted(&mut json_text, word);
    format!("as a string it is written {}", quoted(&json_text))
}

/// `text` as it is written in a shell.
pub(crate) fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

/// Characters shown of a text that is not JSON.
const MAX_EXCERPT: usize = 24;

//! Labels of messages on standard error, and their colours.

use std::env;
use std::io::{self, IsTerminal};

use crate::text::unprintable::escape_message;

/// Formats `label: text` as one line, with the label in its colour.
pub(crate) fn labelled(label: &str, text: &str) -> String {
    let text = escape_message(text);
    if !io::stderr().is_terminal() || !wants_colours() {
        return format!("{label}: {text}");
    }
    let colour = match label {
        "error" => "1;31",
        "warn" => "1;33",
        _ => "1;36",
    };
    format!("\u{1b}[{colour}m{label}:\u{1b}[0m {text}")
}

/// Whether the environment allows colours on a terminal.
pub(crate) fn wants_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

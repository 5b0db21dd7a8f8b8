//! Puts a label before a line on standard error.

use std::env;
use std::io::{self, IsTerminal};

use crate::text::unprintable::escape_message;

/// `label: text` on one line, the label in its colour.
pub(crate) fn labelled(label: &str, text: &str) -> String {
    let mut line = String::new();
    push_label(&mut line, label, has_colours());
    line.push_str(&escape_message(text));
    line
}

fn push_label(out: &mut String, label: &str, colours: bool) {
    let colour = match label {
        _ if !colours => None,
        "error" => Some("\u{1b}[1;31m"),
        "warn" => Some("\u{1b}[1;33m"),
        _ => Some("\u{1b}[1;36m"),
    };
    match colour {
        Some(colour) => out.extend([colour, label, ":\u{1b}[0m "]),
        None => out.extend([label, ": "]),
    }
}

/// Whether standard error shows colours.
fn has_colours() -> bool {
    io::stderr().is_terminal() && wants_colours()
}

/// Whether the environment lets a terminal have colours.
pub(crate) fn wants_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

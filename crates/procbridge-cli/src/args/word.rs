//! A word.

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Reads a word that may be a negative number, or a file whose name is not UTF-8.
pub(crate) fn word_parser() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().map(|word| match word.to_str().and_then(|word| word.strip_prefix(MARK)) {
        Some(number) => number.into(),
        None => word,
    })
}

/// Stands before a number that the parser is not to take for an option. No argument of a process has this character.
pub(crate) const MARK: &str = "\0";

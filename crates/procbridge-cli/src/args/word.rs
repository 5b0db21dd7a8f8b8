//! Positional arguments that may be negative numbers or names of files.

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Returns the parser of an argument that `preprocess` may have marked as a negative number.
pub(crate) fn word_parser() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().map(|word| match word.to_str().and_then(|word| word.strip_prefix(MARK)) {
        Some(number) => number.into(),
        None => word,
    })
}

/// Marks a number, or the parser would take it for an option. No argument of a process has this character.
pub(crate) const MARK: &str = "\0";

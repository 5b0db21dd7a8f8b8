//! UTF-8.

use std::ffi::{OsStr, OsString};

use crate::error::CliError;

/// Returns a word that is to be a text.
pub(crate) fn into_utf8(word: OsString) -> Result<String, CliError> {
    word.into_string().map_err(|word| not_utf8(&word))
}

/// The error for a word that is to be a text, and is none.
pub(crate) fn not_utf8(word: &OsStr) -> CliError {
    CliError::usage(format!("the argument {word:?} is not UTF-8"))
        .with_hint("of all arguments only the names of files may have other bytes, as in @FILE and KEY=@FILE")
}

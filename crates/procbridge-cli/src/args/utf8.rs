//! Arguments that must be UTF-8.

use std::ffi::{OsStr, OsString};

use crate::error::CliError;

/// Returns `word` as text.
pub(crate) fn into_utf8(word: OsString) -> Result<String, CliError> {
    word.into_string().map_err(|word| not_utf8(&word))
}

/// Returns the error for a word that must be UTF-8 and is not.
pub(crate) fn not_utf8(word: &OsStr) -> CliError {
    CliError::usage(format!("the argument {word:?} is not UTF-8"))
        .with_hint("only the names of files may have other bytes, as in @FILE and KEY=@FILE")
}

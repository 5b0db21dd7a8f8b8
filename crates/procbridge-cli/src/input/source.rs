//! Reads files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CliError;
use crate::text::system_error;

/// Reads `@FILE`, or `@-`, which is standard input. Returns also what it was.
pub(crate) fn read_source(word: &OsStr, limit: u32) -> Result<(String, String), CliError> {
    if word == "@-" {
        return Ok((STANDARD_INPUT.to_string(), standard_input(limit)?));
    }
    let file = file_name(word)?;
    let path = file.display().to_string();
    let cannot = |error| CliError::usage(format!("cannot read {path}: {}", system_error::describe(&error)));
    let text = read_all(&path, File::open(file).map_err(cannot)?, limit)?;
    Ok((path, text))
}

/// The file that `@FILE` names.
pub(crate) fn file_name(word: &OsStr) -> Result<&Path, CliError> {
    match word.as_bytes().strip_prefix(b"@") {
        Some(name) if !name.is_empty() => Ok(Path::new(OsStr::from_bytes(name))),
        _ => {
            Err(CliError::usage("\"@\" names no file")
                .with_hint("a file is given as @FILE, standard input as -"))
        }
    }
}

/// Reads standard input, which can be read once.
pub(crate) fn standard_input(limit: u32) -> Result<String, CliError> {
    if STDIN_IS_READ.swap(true, Ordering::Relaxed) {
        return Err(CliError::usage("standard input is given twice, and can be read once"));
    }
    read_all(STANDARD_INPUT, io::stdin().lock(), limit)
}

pub(crate) fn read_all(what: &str, source: impl Read, limit: u32) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    source.take(u64::from(limit) + 1).read_to_end(&mut bytes).map_err(|error| {
        CliError::usage(format!("cannot read {what}: {}", system_error::describe(&error)))
    })?;
    if bytes.len() > limit as usize {
        return Err(CliError::usage(format!("{what} exceeds the limit of {limit} B (max_body)"))
            .with_hint("--max-body sets another limit; the server has its own"));
    }
    String::from_utf8(bytes).map_err(|error| {
        if [[0xff, 0xfe], [0xfe, 0xff]].iter().any(|mark| error.as_bytes().starts_with(mark)) {
            return CliError::usage(format!("{what} is UTF-16"))
                .with_hint("\"iconv -f UTF-16 -t UTF-8\" makes it the UTF-8 that JSON needs");
        }
        let at = error.utf8_error().valid_up_to();
        CliError::usage(format!("{what} is not UTF-8: invalid sequence at byte {at}"))
    })
}

pub(crate) const STANDARD_INPUT: &str = "the payload from standard input";

/// Whether standard input was read.
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);

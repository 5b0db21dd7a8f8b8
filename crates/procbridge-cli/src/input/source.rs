//! Files and standard input.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CliError;
use crate::text::system_error;

/// Bytes of a file or of standard input.
pub(crate) struct Source {
    /// The name for messages.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Source {
    /// Whether `word` names a source: `@FILE`, `@-` or `-`.
    pub(crate) fn is_named_by(word: &OsStr) -> bool {
        word == "-" || word.as_bytes().starts_with(b"@")
    }

    /// Reads `@FILE`, or standard input for any other word. More than `limit` bytes are an error with `limit_hint`.
    pub(crate) fn read(word: &OsStr, limit: u32, limit_hint: &str) -> Result<Self, CliError> {
        match word.as_bytes().strip_prefix(b"@") {
            Some(b"") => Err(CliError::usage("\"@\" names no file").with_hint(SOURCE_FORMS)),
            Some(b"-") | None if STDIN_IS_READ.swap(true, Ordering::Relaxed) => {
                Err(CliError::usage("standard input is given twice, and can be read once"))
            }
            Some(b"-") | None => {
                Self::read_all("standard input".to_string(), io::stdin().lock(), limit, limit_hint)
            }
            Some(file) => {
                let path = Path::new(OsStr::from_bytes(file));
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| cannot_read(&name, &error))?;
                Self::read_all(name, file, limit, limit_hint)
            }
        }
    }

    fn read_all(name: String, source: impl Read, limit: u32, limit_hint: &str) -> Result<Self, CliError> {
        let mut bytes = Vec::new();
        let read = source.take(u64::from(limit) + 1).read_to_end(&mut bytes);
        read.map_err(|error| cannot_read(&name, &error))?;
        if bytes.len() > limit as usize {
            return Err(
                CliError::usage(format!("{name} exceeds the limit of {limit} B")).with_hint(limit_hint)
            );
        }
        Ok(Self { name, bytes })
    }

    /// Returns the name and the bytes as text.
    pub(crate) fn into_text(self) -> Result<(String, String), CliError> {
        let Self { name, bytes } = self;
        match String::from_utf8(bytes) {
            Ok(text) => Ok((name, text)),
            Err(error) if matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) => {
                Err(CliError::usage(format!("{name} is UTF-16"))
                    .with_hint("\"iconv -f UTF-16 -t UTF-8\" converts it to UTF-8"))
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(CliError::usage(format!("{name} is not UTF-8: invalid sequence at byte {at}")))
            }
        }
    }
}

fn cannot_read(name: &str, error: &io::Error) -> CliError {
    CliError::usage(format!("cannot read {name}: {}", system_error::describe(error)))
}

/// The hint on how a file and standard input are written.
pub(crate) const SOURCE_FORMS: &str = "a file is given as @FILE, standard input as -";
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);

//! `procbridge decode`: bytes become a list of fields, with the words of the protocol for what is wrong with them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;

use crate::args::decode::DecodeArgs;
use crate::args::utf8::into_utf8;
use crate::dissect::packet::Dissection;
use crate::dissect::position::Position;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::input::{hex, source};
use crate::terminal::stdout;
use crate::text::system_error;

/// Shows the packets that the input holds, up to the first that is wrong.
pub(crate) fn run(args: &DecodeArgs) -> Result<(), CliError> {
    let Input { bytes, hex_error } = Input::read(&args.input)?;
    if bytes.is_empty() {
        return Err(CliError::usage("no bytes to decode"));
    }
    let mut offset = 0;
    let mut position = Position::begin(args.session);
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let dissection = Dissection::new(offset, rest, position);
        let checked = dissection.check();
        stdout::write(&if args.json { dissection.json(&checked) } else { dissection.listing(&checked) })?;
        let length = checked.map_err(|error| {
            let at = if offset == 0 { String::new() } else { format!("packet at byte {offset}: ") };
            let failure = CliError::new(ExitCode::Protocol, "protocol", format!("{at}{error}"));
            let failure = failure.with_code(error.name());
            // Read as bytes only because it was no hexadecimal: that may be the real mistake.
            hex_error.iter().filter(|_| offset == 0).cloned().fold(failure, CliError::with_hint)
        })?;
        position = dissection.next_position();
        offset += length;
    }
    Ok(())
}

/// What is to be decoded.
struct Input {
    bytes: Vec<u8>,
    /// Why it was not read as hexadecimal.
    hex_error: Option<String>,
}

impl Input {
    fn read(words: &[OsString]) -> Result<Self, CliError> {
        let stdin = || io::stdin().lock();
        match words {
            [] if io::stdin().is_terminal() => Err(CliError::usage("no bytes to decode")
                .with_hint("they are given in hexadecimal, as @FILE, or on standard input")),
            [] => Self::detect(contents("standard input", stdin())?),
            [word] if word == "-" || word == "@-" => Self::detect(contents("standard input", stdin())?),
            [word] if word.as_bytes().starts_with(b"@") => {
                let file = source::file_name(word)?;
                let path = file.display().to_string();
                let cannot = |error| {
                    CliError::usage(format!("cannot read {path}: {}", system_error::describe(&error)))
                };
                Self::detect(contents(&path, File::open(file).map_err(cannot)?)?)
            }
            words => {
                let words = words.iter().cloned().map(into_utf8).collect::<Result<Vec<_>, _>>()?;
                match hex::read(&words.join(" ")) {
                    Ok(bytes) => Ok(Self { bytes, hex_error: None }),
                    Err(reason) => Err(CliError::usage(format!("not hexadecimal: {reason}"))
                        .with_hint("a file is given as @FILE, standard input as -")),
                }
            }
        }
    }

    /// Bytes as they are, or a text that holds them in hexadecimal.
    fn detect(bytes: Vec<u8>) -> Result<Self, CliError> {
        if bytes.starts_with(b"p") {
            return Ok(Self { bytes, hex_error: None });
        }
        let read = match str::from_utf8(&bytes) {
            Ok(text) => hex::read(text),
            Err(_) => return Ok(Self { bytes, hex_error: None }),
        };
        match read {
            Ok(bytes) => Ok(Self { bytes, hex_error: None }),
            Err(reason) => {
                Ok(Self { bytes, hex_error: Some(format!("neither is it hexadecimal: {reason}")) })
            }
        }
    }
}

fn contents(what: &str, source: impl Read) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = source.take(MAX_INPUT + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::usage(format!("cannot read {what}: {}", system_error::describe(&error))))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(CliError::usage(format!("{what} has more than the {MAX_INPUT} B that are read")));
    }
    Ok(bytes)
}

/// Bytes that are read at most.
const MAX_INPUT: u64 = 64 * 1024 * 1024;

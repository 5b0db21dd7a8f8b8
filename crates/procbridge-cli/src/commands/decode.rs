//! `procbridge decode`: shows the fields of packets, and names the rule that a packet breaks.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};

use crate::args::decode::DecodeArgs;
use crate::args::utf8::into_utf8;
use crate::dissect::check::check;
use crate::dissect::format::{json_line, listing};
use crate::dissect::packet::DissectedPacket;
use crate::dissect::position::Position;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::input::hex::parse_hex;
use crate::input::source::{SOURCE_FORMS, Source};
use crate::terminal::stdout;

/// Shows the packets of the input, up to the first that breaks a rule.
pub(crate) fn run(args: &DecodeArgs) -> Result<(), CliError> {
    let Input { bytes, hex_error } = Input::read(&args.input)?;
    if bytes.is_empty() {
        return Err(CliError::usage("no bytes to decode"));
    }
    let mut offset = 0;
    let mut position = if args.session { Position::Session } else { Position::Start };
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let packet = DissectedPacket::new(offset, rest, position);
        let checked = check(&packet);
        match (args.json, &checked) {
            (false, checked) => stdout::write(&listing(&packet, checked.is_ok()))?,
            (true, Ok(_)) => stdout::write_line(json_line(&packet))?,
            (true, Err(_)) => {}
        }
        let length = checked.map_err(|error| {
            let at = if offset == 0 { String::new() } else { format!("packet at byte {offset}: ") };
            let error =
                CliError::new(ExitCode::Protocol, "protocol", format!("{at}{error}")).with_code(error.name());
            // The input was read as bytes because it is not hexadecimal, which may be the real mistake.
            hex_error.iter().filter(|_| offset == 0).cloned().fold(error, CliError::with_hint)
        })?;
        position = packet.next_position();
        offset += length;
    }
    Ok(())
}

/// The bytes to decode.
struct Input {
    bytes: Vec<u8>,
    /// The reason why the input was not read as hexadecimal.
    hex_error: Option<String>,
}

impl Input {
    fn read(words: &[OsString]) -> Result<Self, CliError> {
        match words {
            [] if io::stdin().is_terminal() => Err(CliError::usage("no bytes to decode")
                .with_hint("they are given in hexadecimal, as @FILE, or on standard input")),
            [] => Self::read_source(OsStr::new("-")),
            [word] if Source::is_named_by(word) => Self::read_source(word),
            words => {
                let words = words.iter().cloned().map(into_utf8).collect::<Result<Vec<_>, _>>()?;
                match parse_hex(&words.join(" ")) {
                    Ok(bytes) => Ok(Self { bytes, hex_error: None }),
                    Err(reason) => {
                        Err(CliError::usage(format!("not hexadecimal: {reason}")).with_hint(SOURCE_FORMS))
                    }
                }
            }
        }
    }

    /// Reads raw bytes, or a text that holds them in hexadecimal.
    fn read_source(word: &OsStr) -> Result<Self, CliError> {
        let Source { bytes, .. } = Source::read(word, MAX_INPUT, "split the capture between two packets")?;
        let text = str::from_utf8(&bytes).ok().filter(|_| !bytes.starts_with(b"p"));
        match text.map(parse_hex) {
            Some(Ok(bytes)) => Ok(Self { bytes, hex_error: None }),
            Some(Err(reason)) => {
                Ok(Self { bytes, hex_error: Some(format!("neither is it hexadecimal: {reason}")) })
            }
            None => Ok(Self { bytes, hex_error: None }),
        }
    }
}

/// The largest input, in bytes.
const MAX_INPUT: u32 = 64 * 1024 * 1024;

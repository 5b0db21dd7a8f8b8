//! `procbridge decode`: bytes become a list of fields, with the words of the protocol for what is wrong with them.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use procbridge_proto::{
    Connection, Event, HEADER_LENGTH, Header, Limits, Packet, ProtocolError, Status, Version,
};

use crate::args::DecodeArgs;
use crate::failure::{Exit, Failure};
use crate::hex;
use crate::json_text::{Layout, Object, lay_out};
use crate::output;

/// Shows the packets that the input holds, up to the first that is wrong.
pub(crate) fn run(args: &DecodeArgs) -> Result<(), Failure> {
    let Input { bytes, note } = Input::read(&args.input)?;
    if bytes.is_empty() {
        return Err(Failure::usage("no bytes to decode"));
    }
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let piece = Piece { offset, bytes: rest, header: Header::parse(rest) };
        let checked = piece.check();
        output::data(if args.json { piece.json(&checked) } else { piece.listing(&checked) }.as_bytes())?;
        let length = checked.map_err(|error| {
            let place = if offset == 0 { String::new() } else { format!("packet at byte {offset}: ") };
            let failure = Failure::new(Exit::Protocol, "protocol", format!("{place}{error}"));
            let failure = failure.with_code(error.name());
            // Read as bytes only because it was no hexadecimal: that may be the real mistake.
            note.iter().filter(|_| offset == 0).cloned().fold(failure, Failure::with_help)
        })?;
        offset += length;
    }
    Ok(())
}

/// What is to be decoded.
struct Input {
    bytes: Vec<u8>,
    /// Why it was not read as hexadecimal.
    note: Option<String>,
}

impl Input {
    fn read(words: &[String]) -> Result<Self, Failure> {
        let stdin = || io::stdin().lock();
        match words {
            [] if io::stdin().is_terminal() => Err(Failure::usage("no bytes to decode")
                .with_help("they are given in hexadecimal, as @FILE, or on standard input")),
            [] => Self::detect(contents("standard input", stdin())?),
            [word] if word == "-" => Self::detect(contents("standard input", stdin())?),
            [word] if word.starts_with('@') => {
                let path = word.trim_start_matches('@');
                let cannot = |error| Failure::usage(format!("cannot read {path}: {}", output::plain(&error)));
                Self::detect(contents(path, File::open(path).map_err(cannot)?)?)
            }
            words => match hex::read(&words.join(" ")) {
                Ok(bytes) => Ok(Self { bytes, note: None }),
                Err(reason) => Err(Failure::usage(format!("not hexadecimal: {reason}"))
                    .with_help("a file is given as @FILE, standard input as -")),
            },
        }
    }

    /// Bytes as they are, or a text that holds them in hexadecimal.
    fn detect(bytes: Vec<u8>) -> Result<Self, Failure> {
        if bytes.starts_with(b"p") {
            return Ok(Self { bytes, note: None });
        }
        let read = match str::from_utf8(&bytes) {
            Ok(text) => hex::read(text),
            Err(_) => return Ok(Self { bytes, note: None }),
        };
        match read {
            Ok(bytes) => Ok(Self { bytes, note: None }),
            Err(reason) => Ok(Self { bytes, note: Some(format!("neither is it hexadecimal: {reason}")) }),
        }
    }
}

fn contents(what: &str, source: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = source.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("cannot read {what}: {}", output::plain(&error))))?;
    if bytes.len() as u64 > MOST {
        return Err(Failure::usage(format!("{what} has more than the {MOST} B that are read")));
    }
    Ok(bytes)
}

/// The rest of the input, which should begin with a packet.
struct Piece<'a> {
    offset: usize,
    bytes: &'a [u8],
    header: Result<Option<Header>, ProtocolError>,
}

/// The length of the packet if it is right.
type Checked = Result<usize, ProtocolError>;

impl Piece<'_> {
    /// Gives the packet to the same machine that clients and servers use.
    fn check(&self) -> Checked {
        let header = match &self.header {
            Ok(Some(header)) => header,
            Ok(None) => return Err(truncated(self.bytes.len(), HEADER_LENGTH, "header")),
            Err(error) => return Err(error.clone()),
        };
        let limits = Limits::default().with_max_body(u32::MAX).with_max_method(u32::MAX);
        let mut connection = match header.status {
            Status::REQUEST => Connection::server(limits),
            Status::GOOD | Status::BAD => asking(header.version, limits),
            found => {
                return Err(ProtocolError::UnexpectedStatus {
                    found,
                    expected: "a request (0) or a response (1 or 2)",
                });
            }
        };
        let length = HEADER_LENGTH + header.length as usize;
        connection.receive(self.bytes.get(..length).unwrap_or(self.bytes));
        connection.receive_end();
        match connection.poll_event() {
            Some(Event::Closed { error: Some(error) }) => Err(error),
            _ => Ok(length),
        }
    }

    /// The body as far as it is there.
    fn body(&self) -> &[u8] {
        let Ok(Some(header)) = &self.header else { return &[] };
        let body = self.bytes.get(HEADER_LENGTH..).unwrap_or_default();
        body.get(..header.length as usize).unwrap_or(body)
    }

    fn listing(&self, checked: &Checked) -> String {
        let mut lines = String::new();
        let mut field = |at: usize, length: usize, name: &str, meaning: &str| {
            if let Some(bytes) = self.bytes.get(at..at + length) {
                lines.push_str(&format!(
                    "{:>8}  {:<14}  {name:<8}  {meaning}\n",
                    self.offset + at,
                    hex(bytes)
                ));
            }
        };
        if !matches!(self.header, Err(ProtocolError::NotProcBridge { .. })) {
            field(0, 2, "flag", "\"pb\"");
        }
        match &self.header {
            Ok(Some(header)) => {
                field(2, 2, "version", &header.version.to_string());
                field(4, 1, "status", &format!("{}, {}", header.status.0, status_name(header.status)));
                field(5, 1, "flags", &reserved(header.flags));
                field(6, 1, "options", &reserved(header.options));
                field(7, 4, "length", &header.length.to_string());
            }
            // The version is right if it is there: it would be the error otherwise.
            Ok(None) => {
                if let Some(&[major, minor]) = self.bytes.get(2..4) {
                    field(2, 2, "version", &format!("{major}.{minor}"));
                }
                field(4, 1, "status", "");
                field(5, 1, "flags", "");
                field(6, 1, "options", "");
            }
            Err(_) => {}
        }
        let body = self.body();
        if !body.is_empty() {
            let meaning = match (checked, str::from_utf8(body)) {
                (Ok(_), Ok(text)) => {
                    let layout = if output::is_terminal() { Layout::Terminal } else { Layout::Pretty };
                    lay_out(text, layout).replace('\n', BODY_LINE)
                }
                _ => format!("{} bytes are there", body.len()),
            };
            lines.push_str(&format!(
                "{:>8}  {:<14}  {:<8}  {meaning}\n",
                self.offset + HEADER_LENGTH,
                hex(body),
                "body"
            ));
        }
        lines
    }

    fn json(&self, checked: &Checked) -> String {
        let offset = self.offset.to_string();
        let mut line = match (checked, &self.header, str::from_utf8(self.body())) {
            (Ok(_), Ok(Some(header)), Ok(body)) => Object::new()
                .member("ok", "true")
                .member("offset", &offset)
                .string("version", header.version.to_string().as_str())
                .member("status", &header.status.0.to_string())
                .string("name", status_name(header.status))
                .member("flags", &header.flags.to_string())
                .member("options", &header.options.to_string())
                .member("length", &header.length.to_string())
                .member("body", &lay_out(body, Layout::Compact))
                .finish(),
            _ => return String::new(),
        };
        line.push('\n');
        line
    }
}

/// The side of a connection that waits for a response in `version`.
fn asking(version: Version, limits: Limits) -> Connection {
    let mut connection = Connection::client(limits);
    let request = Packet::request(version, Some("decode"), None).finish(&limits);
    let asked = request.and_then(|request| connection.call(request));
    debug_assert!(asked.is_ok(), "a short request on a new connection");
    connection
}

fn truncated(received: usize, expected: usize, part: &'static str) -> ProtocolError {
    ProtocolError::Truncated { received, expected, part }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::REQUEST => "request",
        Status::GOOD => "good response",
        Status::BAD => "bad response",
        _ => "unknown",
    }
}

fn reserved(byte: u8) -> String {
    if byte == 0 { "0".to_string() } else { format!("{byte:#04x}, reserved and ignored") }
}

/// The first bytes of a field.
fn hex(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > shown.len() { " .." } else { "" };
    format!("{}{more}", shown.join(" "))
}

/// A further line of a body, in the column of the first.
const BODY_LINE: &str = "\n                                    ";
/// Bytes that are read at most.
const MOST: u64 = 64 * 1024 * 1024;

//! What one side of a session says of itself in HELLO: its limits, the compressions it reads, its name (PB-HEL-*).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::compression::codec::Codecs;
use crate::error::ProtocolError;
use crate::json::grammar;
use crate::json::string;
use crate::limits::Limits;
use crate::message::LARGEST_EXACT;

/// The terms on which one side holds a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    max_body: u32,
    max_calls: u32,
    stream_window: u64,
    stream_bytes: u64,
    codecs: Codecs,
    name: Option<String>,
}

impl Settings {
    /// 128 calls at a time, streams of 64 items and 1 MiB ahead, every compression this build has, no name.
    pub fn new() -> Self {
        Self { max_calls: MAX_CALLS, ..Self::unknown(Codecs::available()) }
    }

    /// How many calls of the peer this side serves at a time; one more is refused as `overloaded`. Default 128.
    /// With 0 it takes no calls at all.
    #[must_use]
    pub fn with_max_calls(mut self, calls: u32) -> Self {
        self.max_calls = calls;
        self
    }

    /// How many items of a stream may be on their way to this side before it has taken one. Default 64, at least 1.
    #[must_use]
    pub fn with_stream_window(mut self, items: u32) -> Self {
        self.stream_window = u64::from(items.max(1));
        self
    }

    /// How many bytes of a stream's items may be on their way to this side before it has taken one; the last item
    /// may go beyond. Default 1 MiB (1,048,576), at least 1.
    #[must_use]
    pub fn with_stream_bytes(mut self, bytes: u32) -> Self {
        self.stream_bytes = u64::from(bytes.max(1));
        self
    }

    /// The compressions that this side can read. Default: all that this build has; it never names another.
    #[must_use]
    pub fn with_codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = codecs.and(Codecs::available());
        self
    }

    /// A name for people to read, in logs for one, of at most 256 bytes; a longer one is cut. Default none.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(string::cut(name, MAX_NAME).to_string());
        self
    }

    /// The largest body that this side takes, in bytes of JSON.
    pub fn max_body(&self) -> u32 {
        self.max_body
    }

    /// How many calls of the other side this side serves at a time.
    pub fn max_calls(&self) -> u32 {
        self.max_calls
    }

    /// How many items of a stream this side takes ahead.
    pub fn stream_window(&self) -> u64 {
        self.stream_window
    }

    /// How many bytes of a stream's items this side takes ahead.
    pub fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// The compressions that this side can read.
    pub fn codecs(&self) -> Codecs {
        self.codecs
    }

    /// The name, if it gave one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The terms of a side that has said nothing but what it can read: the opener of a session before its HELLO.
    pub(crate) fn unknown(codecs: Codecs) -> Self {
        let max_body = Limits::default().max_body();
        let (stream_window, stream_bytes) = (STREAM_WINDOW, STREAM_BYTES);
        Self { max_body, max_calls: 0, stream_window, stream_bytes, codecs, name: None }
    }

    /// The body limit of a connection is part of its terms.
    pub(crate) fn with_max_body(&self, bytes: u32) -> Self {
        Self { max_body: bytes, ..self.clone() }
    }

    /// The JSON object of a HELLO.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Self { max_body, max_calls, stream_window, stream_bytes, .. } = self;
        let numbers = format!(
            "{{\"session\":1,\"max_body\":{max_body},\"max_calls\":{max_calls},\
             \"stream_window\":{stream_window},\"stream_bytes\":{stream_bytes}"
        );
        out.extend_from_slice(numbers.as_bytes());
        if let Some(name) = &self.name {
            out.extend_from_slice(b",\"name\":");
            string::push(out, name);
        }
        out.push(b'}');
    }

    /// Reads the body of a HELLO whose options are `codecs`. The acceptor of a session takes calls unless it says
    /// otherwise, the opener only if it says so.
    pub(crate) fn read(
        body: &[u8],
        codecs: Codecs,
        from_acceptor: bool,
        max_depth: u32,
    ) -> Result<Self, ProtocolError> {
        let body = core::str::from_utf8(body)
            .map_err(|error| ProtocolError::InvalidUtf8 { at: error.valid_up_to() })?;
        let mut terms = Self::unknown(codecs);
        if from_acceptor {
            terms.max_calls = MAX_CALLS;
        }
        let (mut session, mut last) = (None, terms.clone());
        grammar::scan_members(body, max_depth, &mut |key, value| {
            let value = body.get(value).unwrap_or_default();
            let number = || value.parse().ok().filter(|&number: &u64| number <= LARGEST_EXACT);
            // Of a key that stands twice the last one counts; a value of another form is as good as none.
            match key {
                "session" => session = number(),
                "max_body" => last.max_body = number().map_or(terms.max_body, clamp),
                "max_calls" => last.max_calls = number().map_or(terms.max_calls, clamp),
                "stream_window" => last.stream_window = number().unwrap_or(terms.stream_window),
                "stream_bytes" => last.stream_bytes = number().unwrap_or(terms.stream_bytes),
                // A session keeps it as long as it lasts.
                "name" => {
                    last.name = string::read(value).map(|name| string::cut(&name.text, MAX_NAME).into())
                }
                _ => {}
            }
        })?;
        match session {
            Some(1) => Ok(last),
            found => Err(ProtocolError::UnsupportedSession { found }),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// More than the wire can carry means the same as the most that it can.
fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The most bytes of a name that are kept.
const MAX_NAME: usize = 256;

/// What an absent `max_calls` of an acceptor means.
const MAX_CALLS: u32 = 128;

/// What an absent `stream_window` means.
const STREAM_WINDOW: u64 = 64;

/// What an absent `stream_bytes` means.
const STREAM_BYTES: u64 = 1024 * 1024;

//! The settings of one side of a session, sent in HELLO: its limits, the compressions it reads, its name (PB-HEL-*).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::compression::codec::Codecs;
use crate::error::ProtocolError;
use crate::json::grammar;
use crate::json::string;
use crate::limits::Limits;
use crate::message::LARGEST_EXACT;

/// The settings of one side of a session.
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
    /// Returns the defaults: 128 concurrent calls, stream windows of 64 items and 1 MiB, all codecs of this build, no
    /// name.
    pub fn new() -> Self {
        Self { max_calls: MAX_CALLS, ..Self::unknown(Codecs::available()) }
    }

    /// Sets the concurrency limit for incoming calls. A call beyond it is refused as `overloaded`. Default 128. With 0
    /// this side takes no calls.
    #[must_use]
    pub fn with_max_calls(mut self, calls: u32) -> Self {
        self.max_calls = calls;
        self
    }

    /// Sets how many items of a stream may be on their way to this side. Default 64, at least 1.
    #[must_use]
    pub fn with_stream_window(mut self, items: u32) -> Self {
        self.stream_window = u64::from(items.max(1));
        self
    }

    /// Sets how many bytes of a stream's items may be on their way to this side. The last item may exceed it. Default 1
    /// MiB (1,048,576), at least 1.
    #[must_use]
    pub fn with_stream_bytes(mut self, bytes: u32) -> Self {
        self.stream_bytes = u64::from(bytes.max(1));
        self
    }

    /// Sets the compressions that this side can read. Default: all codecs of this build. Others are left out.
    #[must_use]
    pub fn with_codecs(mut self, codecs: Codecs) -> Self {
        self.codecs = codecs.and(Codecs::available());
        self
    }

    /// Sets a name for people, such as readers of logs. It is cut at 256 bytes. Default none.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(string::cut(name, MAX_NAME).to_string());
        self
    }

    /// Returns the largest body that this side takes, in bytes of JSON.
    pub fn max_body(&self) -> u32 {
        self.max_body
    }

    /// Returns this side's concurrency limit for incoming calls.
    pub fn max_calls(&self) -> u32 {
        self.max_calls
    }

    /// Returns how many items of a stream may be on their way to this side.
    pub fn stream_window(&self) -> u64 {
        self.stream_window
    }

    /// Returns how many bytes of a stream's items may be on their way to this side.
    pub fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// Returns the compressions that this side can read.
    pub fn codecs(&self) -> Codecs {
        self.codecs
    }

    /// Returns the name, if this side has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the settings of a side of which only the codecs are known: the opener of a session before its HELLO.
    pub(crate) fn unknown(codecs: Codecs) -> Self {
        let max_body = Limits::default().max_body();
        let (stream_window, stream_bytes) = (STREAM_WINDOW, STREAM_BYTES);
        Self { max_body, max_calls: 0, stream_window, stream_bytes, codecs, name: None }
    }

    /// Returns the settings with the body limit of a connection.
    pub(crate) fn with_max_body(&self, bytes: u32) -> Self {
        Self { max_body: bytes, ..self.clone() }
    }

    /// Appends the JSON object of a HELLO.
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

    /// Reads the body of a HELLO whose options are `codecs`. By default the acceptor of a session takes calls, and the
    /// opener takes none.
    pub(crate) fn read(
        body: &[u8],
        codecs: Codecs,
        from_acceptor: bool,
        max_depth: u32,
    ) -> Result<Self, ProtocolError> {
        let body = core::str::from_utf8(body)
            .map_err(|error| ProtocolError::InvalidUtf8 { at: error.valid_up_to() })?;
        let mut settings = Self::unknown(codecs);
        if from_acceptor {
            settings.max_calls = MAX_CALLS;
        }
        let (mut session, mut last) = (None, settings.clone());
        grammar::scan_members(body, max_depth, &mut |key, value| {
            let value = body.get(value).unwrap_or_default();
            let number = || value.parse().ok().filter(|&number: &u64| number <= LARGEST_EXACT);
            // The last of several equal keys counts. A value of another form counts as absent.
            match key {
                "session" => session = number(),
                "max_body" => last.max_body = number().map_or(settings.max_body, clamp),
                "max_calls" => last.max_calls = number().map_or(settings.max_calls, clamp),
                "stream_window" => last.stream_window = number().unwrap_or(settings.stream_window),
                "stream_bytes" => last.stream_bytes = number().unwrap_or(settings.stream_bytes),
                // The name is cut: a session keeps it until its end.
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

/// Returns the number, or the largest one that the wire can carry.
fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The most bytes of a name that are kept.
const MAX_NAME: usize = 256;

/// The meaning of an absent `max_calls` of an acceptor.
const MAX_CALLS: u32 = 128;

/// The meaning of an absent `stream_window`.
const STREAM_WINDOW: u64 = 64;

/// The meaning of an absent `stream_bytes`.
const STREAM_BYTES: u64 = 1024 * 1024;

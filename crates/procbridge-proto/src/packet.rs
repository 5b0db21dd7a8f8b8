//! Packets to be sent: header and body in one buffer, so that one write carries them (PB-CON-*, PB-HDR-*).
//!
//! A packet is built front to back without a copy. First comes the envelope up to the payload's key. Then the payload
//! is written straight into the buffer. The length is written last.

use alloc::vec::Vec;

use crate::compression::codec::Codec;
use crate::compression::inflate;
use crate::error::{Misuse, ProtocolError};
use crate::header::Header;
use crate::json::grammar;
use crate::json::string;
use crate::limits::Limits;
use crate::message::{Keys, LARGEST_EXACT};
use crate::wire::{HEADER_LENGTH, Status, Version, flag};

/// A complete packet, ready to be queued with [`Connection::call`](crate::Connection::call),
/// [`Connection::reply`](crate::Connection::reply) or [`Connection::item`](crate::Connection::item).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Headroom, header, body. In a session the header moves to the front, and the call id follows it.
    pub(crate) buffer: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) status: Status,
    /// The flags of a session packet.
    pub(crate) flags: u8,
    json_len: usize,
    has_token: bool,
}

/// The fields of a request besides its method and its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The caller's timeout, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The meta data of the call, as the text of a JSON object.
    pub meta: Option<&'a str>,
    /// The token that the server asks for.
    pub token: Option<&'a str>,
}

/// A packet whose envelope is written and whose payload (or an error's data) may follow.
#[derive(Debug)]
pub struct PacketBuilder {
    bytes: Vec<u8>,
    version: Version,
    status: Status,
    flags: u8,
    has_token: bool,
    /// Where the value's key begins, so that it can be removed if the value is null.
    value_key: usize,
    /// Where the value begins.
    value: usize,
    method_length: Option<usize>,
    null: Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Null {
    LeftOut,
    Written,
}

impl Packet {
    /// Begins a request for `method` with a timeout in milliseconds (left out in the 1.0 format).
    pub fn request(version: Version, method: Option<&str>, timeout_ms: Option<u64>) -> PacketBuilder {
        let envelope = Envelope { timeout_ms, ..Envelope::default() };
        Self::request_unchecked(version, method, &envelope)
    }

    /// Begins a request for `method` with an envelope. The 1.0 format leaves the envelope out.
    ///
    /// # Errors
    ///
    /// The envelope's `meta` is not the text of a JSON object.
    pub fn request_with(
        version: Version,
        method: Option<&str>,
        envelope: &Envelope<'_>,
    ) -> Result<PacketBuilder, ProtocolError> {
        if let Some(meta) = envelope.meta {
            // The body's own object is a level too.
            grammar::members(meta, Limits::DEEPEST - 1, |_, _| ())?;
        }
        Ok(Self::request_unchecked(version, method, envelope))
    }

    fn request_unchecked(version: Version, method: Option<&str>, envelope: &Envelope<'_>) -> PacketBuilder {
        let mut builder = PacketBuilder::new(version, Status::REQUEST);
        builder.method_length = method.map(str::len);
        if let Some(method) = method {
            builder.key(Keys::of(version).method_key);
            string::push(&mut builder.bytes, method);
        }
        if version == Version::V1_1 {
            if let Some(timeout) = envelope.timeout_ms {
                // PB-CNV-2: no more than every language can represent.
                let timeout = timeout.min(LARGEST_EXACT);
                builder.key(",\"timeout_ms\":");
                push_number(&mut builder.bytes, timeout);
            }
            if let Some(meta) = envelope.meta {
                builder.key(",\"meta\":");
                builder.bytes.extend_from_slice(meta.as_bytes());
            }
            if let Some(token) = envelope.token {
                builder.key(",\"token\":");
                string::push(&mut builder.bytes, token);
                builder.has_token = true;
            }
        }
        builder.value_key(Keys::of(version).payload_key)
    }

    /// Begins a good response. Its payload follows.
    pub fn good(version: Version) -> PacketBuilder {
        PacketBuilder::new(version, Status::GOOD).value_key(Keys::of(version).payload_key)
    }

    /// Begins one element of a streamed result, for sessions only. Its payload follows.
    pub fn item() -> PacketBuilder {
        PacketBuilder::new(Version::V1_1, Status::ITEM).value_key(",\"payload\":")
    }

    /// Begins a bad response. Its data may follow. The 1.0 format has the message only.
    pub fn bad(version: Version, message: &str, code: Option<&str>) -> PacketBuilder {
        let mut builder = PacketBuilder::new(version, Status::BAD);
        builder.key(Keys::of(version).message_key);
        string::push(&mut builder.bytes, message);
        if let (Some(code), Version::V1_1) = (code, version) {
            builder.key(",\"code\":");
            string::push(&mut builder.bytes, code);
        }
        builder.value_key(",\"data\":")
    }

    /// Returns the bytes of the packet on a classic connection: header and body.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(HEADROOM..).unwrap_or_default()
    }

    /// Returns the bytes of the packet on a classic connection: header and body.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.buffer.drain(..HEADROOM);
        self.buffer
    }

    /// Returns the size of the packet's JSON before compression, in bytes.
    pub fn json_len(&self) -> usize {
        self.json_len
    }

    /// Compresses the body, for a session whose peer can read that ([`Settings::codecs`](crate::Settings::codecs)). The
    /// packet stays as it is below 1,024 bytes, with a token, or in the 1.0 format. It also stays as it is if it would
    /// not get smaller, or if this build lacks the codec.
    #[must_use]
    pub fn compressed(mut self, codec: Codec) -> Self {
        let json = self.buffer.get(FRONT..).unwrap_or_default();
        if json.len() < MIN_COMPRESSED
            || self.has_token
            || self.version != Version::V1_1
            || self.codec().is_some()
        {
            return self;
        }
        if let Some(buffer) = inflate::compress(codec, json, FRONT)
            && buffer.len() < self.buffer.len()
        {
            let length = u32::try_from(buffer.len() - FRONT).unwrap_or(u32::MAX);
            self.buffer = buffer;
            self.flags |= codec.flags();
            self.write_header(length);
        }
        self
    }

    /// Returns the compression of the body, if it has one.
    pub fn codec(&self) -> Option<Codec> {
        Codec::of_flags(self.flags)
    }

    /// Makes the packet the offer of a session. `options` are the codecs that this side can read.
    pub(crate) fn offer(&mut self, options: u8) {
        let flags = flag::SESSION | self.flags & (flag::ONE_WAY | flag::STREAM);
        if let Some([at_flags, at_options]) = self.buffer.get_mut(HEADROOM + 5..HEADROOM + 7) {
            (*at_flags, *at_options) = (flags, options);
        }
    }

    /// Writes the classic header of a body of `length` bytes.
    fn write_header(&mut self, length: u32) {
        let header = Header::classic(self.version, self.status, length);
        if let Some(place) = self.buffer.get_mut(HEADROOM..FRONT) {
            place.copy_from_slice(&header.encode());
        }
    }
}

impl PacketBuilder {
    fn new(version: Version, status: Status) -> Self {
        let mut bytes = Vec::with_capacity(FIRST_CAPACITY);
        // The length is not known yet, so finish() writes the header.
        bytes.extend_from_slice(&[0; FRONT]);
        bytes.push(b'{');
        let (flags, has_token) = (0, false);
        let (value_key, value, method_length, null) = (0, 0, None, Null::LeftOut);
        Self { bytes, version, status, flags, has_token, value_key, value, method_length, null }
    }

    /// Makes a request one-way: it gets no answer. A classic server answers it all the same.
    #[must_use]
    pub fn one_way(mut self) -> Self {
        self.flags |= flag::ONE_WAY;
        self
    }

    /// Makes a request accept its result in items. A classic server ignores this.
    #[must_use]
    pub fn stream(mut self) -> Self {
        self.flags |= flag::STREAM;
        self
    }

    /// Appends a value written by `write`, without a copy and without a check. `write` must append exactly one JSON
    /// value and leave the bytes before it alone. [`json_text`](Self::json_text) checks the value.
    ///
    /// # Errors
    ///
    /// The error of `write`. The builder is dropped then, and nothing is sent.
    pub fn write<E>(mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        self.bytes.truncate(self.value);
        write(&mut self.bytes)?;
        Ok(self)
    }

    /// Appends `text`, one JSON value.
    ///
    /// # Errors
    ///
    /// The text is not one JSON value of at most 128 levels.
    pub fn json_text(mut self, text: &str) -> Result<Self, ProtocolError> {
        grammar::check(text, Limits::DEEPEST)?;
        self.bytes.truncate(self.value);
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(self)
    }

    /// Writes a null payload instead of leaving its key out, for readers that need the key (PB-RES-*).
    #[must_use]
    pub fn explicit_null(mut self) -> Self {
        self.null = Null::Written;
        self
    }

    /// Ends the packet.
    ///
    /// # Errors
    ///
    /// - [`Misuse::TooLarge`]: the body is over `limits`.
    /// - [`Misuse::MethodTooLong`]: the method's name is over `limits`.
    /// - [`Misuse::MethodRequired`]: a 1.0 request without a method.
    pub fn finish(mut self, limits: &Limits) -> Result<Packet, Misuse> {
        if self.status == Status::REQUEST {
            let length = self.method_length.unwrap_or_default();
            if length > limits.max_method() as usize {
                return Err(Misuse::MethodTooLong { length, limit: limits.max_method() });
            }
            if length == 0 && self.version == Version::V1_0 {
                return Err(Misuse::MethodRequired);
            }
        }
        if let Some(b"" | b"null") = self.bytes.get(self.value..) {
            self.bytes.truncate(self.value);
            match (self.status, self.version, self.null) {
                // 1.0 has only objects as payload, and always writes one.
                (Status::REQUEST | Status::GOOD, Version::V1_0, _) => self.bytes.extend_from_slice(b"{}"),
                (Status::GOOD | Status::ITEM, Version::V1_1, Null::Written) => {
                    self.bytes.extend_from_slice(b"null")
                }
                _ => self.bytes.truncate(self.value_key),
            }
        } else if (self.status, self.version) == (Status::BAD, Version::V1_0) {
            self.bytes.truncate(self.value_key);
        }
        // A large buffer has about the capacity that it needs, so it must not double for one byte.
        self.bytes.reserve_exact(1);
        self.bytes.push(b'}');

        let json_len = self.bytes.len() - FRONT;
        let limit = limits.max_body();
        let length = u32::try_from(json_len)
            .ok()
            .filter(|&length| length <= limit)
            .ok_or(Misuse::TooLarge { length: json_len, limit })?;
        // A one-way call has no items either.
        let flags = match self.flags {
            flags if self.status != Status::REQUEST => flags & !(flag::ONE_WAY | flag::STREAM),
            flags if flags & flag::ONE_WAY != 0 => flags & !flag::STREAM,
            flags => flags,
        };
        let Self { bytes: buffer, version, status, has_token, .. } = self;
        let mut packet = Packet { buffer, version, status, flags, json_len, has_token };
        packet.write_header(length);
        Ok(packet)
    }

    #[inline]
    fn value_key(mut self, key: &'static str) -> Self {
        self.value_key = self.bytes.len();
        self.key(key);
        self.value = self.bytes.len();
        self
    }

    /// Appends `key`, which is quoted, with a comma before it and a colon behind it.
    #[inline]
    fn key(&mut self, key: &'static str) {
        let is_first = self.bytes.last() == Some(&b'{');
        let key = if is_first { key.strip_prefix(',').unwrap_or(key) } else { key };
        self.bytes.extend_from_slice(key.as_bytes());
    }
}

/// The bytes in front of the classic header, as many as a call id takes.
pub(crate) const HEADROOM: usize = 4;

/// Where the body begins in a packet's buffer: behind headroom and header, or behind header and call id.
pub(crate) const FRONT: usize = HEADROOM + HEADER_LENGTH;

/// The smallest body that is compressed, in bytes.
const MIN_COMPRESSED: usize = 1024;

/// The initial capacity, so that a usual packet is allocated once.
const FIRST_CAPACITY: usize = 256;

/// Appends a whole number.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        // A digit is below ten.
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    fn body(builder: PacketBuilder) -> String {
        let packet = builder.finish(&Limits::default()).unwrap();
        let header = Header::parse(packet.bytes()).unwrap().unwrap();
        let body = &packet.bytes()[HEADER_LENGTH..];
        assert_eq!(header.length as usize, body.len());
        assert_eq!((header.flags, header.options), (0, 0));
        String::from_utf8(body.into()).unwrap()
    }

    #[test]
    fn null_and_nothing_are_left_out() {
        let v = Version::V1_1;
        assert_eq!(body(Packet::request(v, None, None)), "{}");
        assert_eq!(body(Packet::request(v, Some("a"), None)), r#"{"method":"a"}"#);
        assert_eq!(body(Packet::request(v, None, None).json_text("null").unwrap()), "{}");
        assert_eq!(
            body(Packet::request(v, None, Some(5)).json_text("0").unwrap()),
            r#"{"timeout_ms":5,"payload":0}"#
        );
        assert_eq!(body(Packet::request(v, None, Some(u64::MAX))), r#"{"timeout_ms":9007199254740991}"#);
        assert_eq!(body(Packet::good(v)), "{}");
        assert_eq!(body(Packet::good(v).explicit_null()), r#"{"payload":null}"#);
        assert_eq!(body(Packet::bad(v, "no\n", None)), r#"{"message":"no\n"}"#);
        assert_eq!(
            body(Packet::bad(v, "", Some("c")).json_text("[1]").unwrap()),
            r#"{"message":"","code":"c","data":[1]}"#
        );
    }

    #[test]
    fn the_old_format_writes_an_object_for_null_and_no_conventions() {
        let v = Version::V1_0;
        assert_eq!(body(Packet::request(v, Some("a"), Some(5))), r#"{"api":"a","body":{}}"#);
        assert_eq!(body(Packet::good(v).json_text("null").unwrap()), r#"{"body":{}}"#);
        assert_eq!(body(Packet::bad(v, "no", Some("c")).json_text("1").unwrap()), r#"{"msg":"no"}"#);
        let unnamed = Packet::request(v, None, None).finish(&Limits::default());
        assert_eq!(unnamed, Err(Misuse::MethodRequired));
    }

    #[test]
    fn limits_hold_for_what_is_sent() {
        let limits = Limits::default().with_max_body(14).with_max_method(1);
        let request = |method| Packet::request(Version::V1_1, Some(method), None);
        assert!(request("a").finish(&limits).is_ok());
        let too_large = request("a").json_text("1").unwrap().finish(&limits);
        assert_eq!(too_large, Err(Misuse::TooLarge { length: 26, limit: 14 }));
        assert_eq!(request("ab").finish(&limits), Err(Misuse::MethodTooLong { length: 2, limit: 1 }));
    }

    #[test]
    fn text_that_is_not_json_is_not_sent() {
        assert!(Packet::good(Version::V1_1).json_text("NaN").is_err());
        assert!(Packet::good(Version::V1_1).json_text("1}").is_err());
    }
}

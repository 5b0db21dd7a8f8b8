//! Packets to be sent: header and body in one buffer, so that one write carries them (PB-CON-*, PB-HDR-*).
//!
//! A packet is built front to back without a copy: the envelope up to the payload's key, then the payload, written
//! straight into the buffer, then the end, the length last.

use alloc::format;
use alloc::vec::Vec;

use crate::error::{Misuse, ProtocolError};
use crate::header::{HEADER_LENGTH, Header, Status, Version};
use crate::json;
use crate::limits::Limits;
use crate::message::{Keys, LARGEST_EXACT};

/// A complete packet, ready to be queued with [`Connection::call`](crate::Connection::call) or
/// [`Connection::reply`](crate::Connection::reply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) status: Status,
}

/// A packet whose envelope is written and whose payload (or an error's data) may follow.
#[derive(Debug)]
pub struct PacketBuilder {
    bytes: Vec<u8>,
    version: Version,
    status: Status,
    /// Where the key of the value began, so that it can be taken back if the value is null.
    value_key: usize,
    /// Where the value itself begins.
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
    /// A request for `method`, whose caller waits `timeout_ms` milliseconds (left out in the 1.0 format).
    pub fn request(version: Version, method: Option<&str>, timeout_ms: Option<u64>) -> PacketBuilder {
        let mut builder = PacketBuilder::new(version, Status::REQUEST);
        builder.method_length = method.map(str::len);
        if let Some(method) = method {
            builder.key(Keys::of(version).method);
            json::push_string(&mut builder.bytes, method);
        }
        if let (Some(timeout), Version::V1_1) = (timeout_ms, version) {
            // PB-CNV-2: no more than every language can hold.
            let timeout = timeout.min(LARGEST_EXACT);
            builder.key("timeout_ms");
            builder.bytes.extend_from_slice(format!("{timeout}").as_bytes());
        }
        builder.value_key(Keys::of(version).payload)
    }

    /// A good response; its payload follows.
    pub fn good(version: Version) -> PacketBuilder {
        PacketBuilder::new(version, Status::GOOD).value_key(Keys::of(version).payload)
    }

    /// A bad response; its data may follow. The 1.0 format has the message only.
    pub fn bad(version: Version, message: &str, code: Option<&str>) -> PacketBuilder {
        let mut builder = PacketBuilder::new(version, Status::BAD);
        builder.key(Keys::of(version).message);
        json::push_string(&mut builder.bytes, message);
        if let (Some(code), Version::V1_1) = (code, version) {
            builder.key("code");
            json::push_string(&mut builder.bytes, code);
        }
        builder.value_key("data")
    }

    /// The bytes of the packet: header and body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the packet: header and body.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl PacketBuilder {
    fn new(version: Version, status: Status) -> Self {
        let mut bytes = Vec::with_capacity(FIRST_CAPACITY);
        // The length is not known yet; finish() writes the header again.
        bytes.extend_from_slice(&Header::classic(version, status, 0).encode());
        bytes.push(b'{');
        Self { bytes, version, status, value_key: 0, value: 0, method_length: None, null: Null::LeftOut }
    }

    /// Appends a value written by `write`, which must append exactly one JSON value to the buffer and leave what
    /// stands there alone. This is the way without a copy; [`json_text`](Self::json_text) is the checked one.
    ///
    /// # Errors
    ///
    /// What `write` returns; the builder is gone then, nothing was sent.
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
        json::check(text, Limits::DEEPEST)?;
        self.bytes.truncate(self.value);
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(self)
    }

    /// Writes a null payload out instead of leaving its key out, for readers that need the key (PB-RES-*).
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
                // 1.0 knows objects only, and always writes one.
                (Status::REQUEST | Status::GOOD, Version::V1_0, _) => self.bytes.extend_from_slice(b"{}"),
                (Status::GOOD, Version::V1_1, Null::Written) => self.bytes.extend_from_slice(b"null"),
                _ => self.bytes.truncate(self.value_key),
            }
        } else if (self.status, self.version) == (Status::BAD, Version::V1_0) {
            self.bytes.truncate(self.value_key);
        }
        self.bytes.push(b'}');

        let length = self.bytes.len() - HEADER_LENGTH;
        let limit = limits.max_body();
        let length = u32::try_from(length)
            .ok()
            .filter(|&length| length <= limit)
            .ok_or(Misuse::TooLarge { length, limit })?;
        let header = Header::classic(self.version, self.status, length).encode();
        self.bytes.splice(..HEADER_LENGTH, header);
        Ok(Packet { bytes: self.bytes, version: self.version, status: self.status })
    }

    fn value_key(mut self, key: &'static str) -> Self {
        self.value_key = self.bytes.len();
        self.key(key);
        self.value = self.bytes.len();
        self
    }

    /// `key` must need no escapes.
    fn key(&mut self, key: &'static str) {
        if self.bytes.last() != Some(&b'{') {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }
}

/// Room for a small packet, so that the usual one is allocated once.
const FIRST_CAPACITY: usize = 256;

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

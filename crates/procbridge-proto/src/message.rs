//! Received messages: requests and responses, read from their bodies (PB-REQ-*, PB-RES-*, PB-OLD-*).
//!
//! A message owns the body it was read from. Payload and data are ranges of it, never copies.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use crate::compression::codec::Codec;
use crate::error::ProtocolError;
use crate::header::Header;
use crate::json::grammar;
use crate::json::string;
use crate::limits::Limits;
use crate::wire::{Status, Version, flag};

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    version: Version,
    body: String,
    method: Option<Name>,
    payload: Option<Range<usize>>,
    timeout_ms: Option<u64>,
    meta: Option<Range<usize>>,
    token: Option<Range<usize>>,
    flags: u8,
}

/// One element of a streamed result, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    body: String,
    payload: Option<Range<usize>>,
}

/// A response as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The method's result.
    Good(Good),
    /// The server's refusal.
    Bad(Bad),
}

/// A good response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good {
    body: String,
    payload: Option<Range<usize>>,
    /// The depth limit of a payload that has not been checked.
    unchecked: Option<u32>,
}

/// A bad response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    body: String,
    message: String,
    code: Option<String>,
    data: Option<Range<usize>>,
}

/// The name of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// The range in the body.
    Plain(Range<usize>),
    /// The name without its escapes.
    Escaped(String),
}

impl Name {
    fn is_empty(&self) -> bool {
        match self {
            Self::Plain(place) => place.is_empty(),
            Self::Escaped(name) => name.is_empty(),
        }
    }
}

impl Request {
    /// Returns the version of the packet, which is that of the answer too.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the method's name, if the request has one.
    pub fn method(&self) -> Option<&str> {
        match self.method.as_ref()? {
            Name::Plain(place) => self.body.get(place.clone()),
            Name::Escaped(name) => Some(name),
        }
    }

    /// Returns the payload as JSON text, exactly as it was sent, or `None` if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        slice(&self.body, self.payload.as_ref())
    }

    /// Returns the caller's timeout in milliseconds, if the request has one (PB-CNV-*).
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// Returns the meta data of the call, as the text of a JSON object (PB-CNV-*).
    pub fn meta(&self) -> Option<&str> {
        slice(&self.body, self.meta.as_ref())
    }

    /// Returns the token of the caller, if the request has one (PB-CNV-*).
    pub fn token(&self) -> Option<Cow<'_, str>> {
        string::read(slice(&self.body, self.token.as_ref())?).map(|token| token.text)
    }

    /// Returns the bytes of the body, which the request holds.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// Whether the caller wants no answer. Only in a session: a classic caller always gets an answer.
    pub fn is_one_way(&self) -> bool {
        self.flags & flag::ONE_WAY != 0
    }

    /// Whether the caller accepts the result in items.
    pub fn wants_items(&self) -> bool {
        self.flags & (flag::STREAM | flag::ONE_WAY) == flag::STREAM
    }

    /// Returns the compression of the request on the wire, if it had one.
    pub fn codec(&self) -> Option<Codec> {
        Codec::of_flags(self.flags)
    }

    /// Adds the flags of a session packet.
    pub(crate) fn with_flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn read(version: Version, body: Vec<u8>, limits: &Limits) -> Result<Self, ProtocolError> {
        let body = text(body)?;
        let keys = Keys::of(version);
        let (mut method, mut payload, mut timeout) = (None, None, None);
        let (mut meta, mut token) = (None, None);
        grammar::members(&body, limits.max_depth(), |key, value| match (version, key) {
            (Version::V1_1, "method") | (Version::V1_0, "api") => method = Some(value),
            (Version::V1_1, "payload") | (Version::V1_0, "body") => payload = Some(value),
            (Version::V1_1, "timeout_ms") => timeout = Some(value),
            (Version::V1_1, "meta") => meta = Some(value),
            (Version::V1_1, "token") => token = Some(value),
            _ => {}
        })?;
        let method = read_method(&body, method, &keys, limits)?;
        if version == Version::V1_0 && method.as_ref().is_none_or(Name::is_empty) {
            let found = if method.is_some() { "an empty one" } else { "nothing" };
            return Err(ProtocolError::InvalidMethod { key: keys.method, found });
        }
        let payload = not_null(&body, payload);
        let timeout_ms = slice(&body, timeout.as_ref()).and_then(milliseconds);
        let meta = meta.filter(|meta| slice(&body, Some(meta)).is_some_and(|meta| meta.starts_with('{')));
        Ok(Self { version, body, method, payload, timeout_ms, meta, token, flags: 0 })
    }
}

impl Item {
    /// Returns the payload as JSON text, exactly as it was sent, or `None` if the item has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        slice(&self.body, self.payload.as_ref())
    }

    /// Returns the credit that the item costs, in bytes: the size of its body.
    pub fn size(&self) -> u64 {
        self.body.len() as u64
    }

    pub(crate) fn read(body: Vec<u8>, limits: &Limits) -> Result<Self, ProtocolError> {
        let body = text(body)?;
        let mut payload = None;
        grammar::members(&body, limits.max_depth(), |key, value| {
            if key == "payload" {
                payload = Some(value);
            }
        })?;
        let payload = not_null(&body, payload);
        Ok(Self { body, payload })
    }
}

impl Response {
    /// Returns the good response, if it is one.
    pub fn good(&self) -> Option<&Good> {
        match self {
            Self::Good(good) => Some(good),
            Self::Bad(_) => None,
        }
    }

    /// Returns the bad response, if it is one.
    pub fn bad(&self) -> Option<&Bad> {
        match self {
            Self::Bad(bad) => Some(bad),
            Self::Good(_) => None,
        }
    }

    pub(crate) fn read(header: &Header, body: Vec<u8>, limits: &Limits) -> Result<Self, ProtocolError> {
        let body = text(body)?;
        let is_good = header.status == Status::GOOD;
        let (mut payload, mut message, mut code, mut data) = (None, None, None, None);
        let is_left = is_good && limits.leaves_results() && header.version == Version::V1_1;
        let left = if is_left { "payload" } else { "" };
        grammar::members_but(&body, limits.max_depth(), left, |key, value| match (header.version, key) {
            (Version::V1_1, "payload") | (Version::V1_0, "body") => payload = Some(value),
            (Version::V1_1, "message") | (Version::V1_0, "msg") => message = Some(value),
            (Version::V1_1, "code") => code = Some(value),
            (Version::V1_1, "data") => data = Some(value),
            _ => {}
        })?;
        if is_good {
            let payload = not_null(&body, payload);
            let unchecked = is_left.then(|| limits.max_depth());
            return Ok(Self::Good(Good { body, payload, unchecked }));
        }
        let message = match slice(&body, not_null(&body, message).as_ref()) {
            None => "unknown server error".to_string(),
            // Node's package sends the thrown value, which may be no string.
            Some(value) => {
                string::read(value).map_or_else(|| value.to_string(), |read| read.text.into_owned())
            }
        };
        let code = slice(&body, code.as_ref()).and_then(string::read).map(|read| read.text.into_owned());
        let data = not_null(&body, data);
        Ok(Self::Bad(Bad { body, message, code, data }))
    }
}

impl Good {
    /// Returns the payload as JSON text, exactly as it was sent, or `None` if the response has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        slice(&self.body, self.payload.as_ref())
    }

    /// Checks a payload that was [left unchecked](Limits::with_results_unchecked).
    ///
    /// # Errors
    ///
    /// The payload is not JSON.
    pub fn check(&self) -> Result<(), ProtocolError> {
        match (self.unchecked, &self.payload) {
            // Check the whole body, so that the error has the offset in it.
            (Some(max_depth), Some(_)) => grammar::members(&self.body, max_depth, |_, _| ()),
            _ => Ok(()),
        }
    }

    /// Returns the [payload](Self::payload) as a string, in the memory of the body.
    pub fn into_payload(self) -> Option<String> {
        let (place, mut body) = (self.payload?, self.body);
        body.truncate(place.end);
        body.drain(..place.start);
        Some(body)
    }
}

impl Bad {
    /// Returns the message as it was sent, or `unknown server error` if there was none.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the stable code, if the server sent one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the data of the error, as JSON text.
    pub fn data(&self) -> Option<&str> {
        slice(&self.body, self.data.as_ref())
    }
}

/// Splits the body of a 1.1 request into method and payload, for measurements. The payload is left to a parser.
#[doc(hidden)]
pub fn split_request(body: &[u8]) -> Option<(Option<&str>, Option<&str>)> {
    let body = core::str::from_utf8(body).ok()?;
    let (mut method, mut payload) = (None, None);
    let split = grammar::members_but(body, Limits::DEEPEST, "payload", |key, value| match key {
        "method" => method = Some(value),
        "payload" => payload = Some(value),
        _ => {}
    });
    split.ok()?;
    let method = slice(body, method.as_ref()).and_then(|method| method.strip_prefix('"')?.strip_suffix('"'));
    Some((method, slice(body, payload.as_ref())))
}

/// Returns the text of the last member `key` of `object`, which is known to be JSON. The scan ends at a value deeper
/// than 128 levels.
#[doc(hidden)]
pub fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut found = None;
    // The only possible error is too many levels, in a member behind those that were found.
    let _ = grammar::scan_members(object, Limits::DEEPEST, &mut |name, value| {
        if name == key {
            found = object.get(value);
        }
    });
    found
}

/// The three keys of a version: the name of the method's key, and all as they are [written](crate::PacketBuilder).
pub(crate) struct Keys {
    pub(crate) method: &'static str,
    pub(crate) method_key: &'static str,
    pub(crate) payload_key: &'static str,
    pub(crate) message_key: &'static str,
}

impl Keys {
    #[inline]
    pub(crate) fn of(version: Version) -> Self {
        match version {
            Version::V1_0 => Self {
                method: "api",
                method_key: ",\"api\":",
                payload_key: ",\"body\":",
                message_key: ",\"msg\":",
            },
            Version::V1_1 => Self {
                method: "method",
                method_key: ",\"method\":",
                payload_key: ",\"payload\":",
                message_key: ",\"message\":",
            },
        }
    }
}

pub(crate) fn text(body: Vec<u8>) -> Result<String, ProtocolError> {
    String::from_utf8(body)
        .map_err(|error| ProtocolError::InvalidUtf8 { at: error.utf8_error().valid_up_to() })
}

fn slice<'a>(body: &'a str, place: Option<&Range<usize>>) -> Option<&'a str> {
    body.get(place?.clone())
}

/// Drops an explicit null, which means the same as an absent key (PB-BODY-*).
fn not_null(body: &str, place: Option<Range<usize>>) -> Option<Range<usize>> {
    place.filter(|place| body.get(place.clone()) != Some("null"))
}

fn read_method(
    body: &str,
    place: Option<Range<usize>>,
    keys: &Keys,
    limits: &Limits,
) -> Result<Option<Name>, ProtocolError> {
    let Some(place) = not_null(body, place) else { return Ok(None) };
    let value = slice(body, Some(&place)).unwrap_or_default();
    let invalid = |found| ProtocolError::InvalidMethod { key: keys.method, found };
    let read = string::read(value).ok_or_else(|| invalid(grammar::kind(value)))?;
    if read.lossy {
        return Err(invalid("a string with half a surrogate pair"));
    }
    if read.text.len() > limits.max_method() as usize {
        return Err(ProtocolError::MethodTooLong { length: read.text.len(), limit: limits.max_method() });
    }
    Ok(Some(match read.text {
        // The range between the quotes.
        Cow::Borrowed(_) => Name::Plain(place.start + 1..place.end - 1),
        Cow::Owned(name) => Name::Escaped(name),
    }))
}

/// Reads a whole number of milliseconds that every language can represent. Any other value counts as absent.
fn milliseconds(value: &str) -> Option<u64> {
    value.parse().ok().filter(|&number| number <= LARGEST_EXACT)
}

/// The largest integer up to which a double represents every integer exactly.
pub(crate) const LARGEST_EXACT: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    #[test]
    fn a_member_is_the_last_of_its_name_as_it_stands() {
        let object = r#" {"a": [1, 2], "\u0062":"\n", "a" : {"b":3} } "#;
        assert_eq!(member(object, "a"), Some(r#"{"b":3}"#));
        assert_eq!(member(object, "b"), Some(r#""\n""#));
        assert_eq!(member(object, "c"), None);
        assert_eq!(member("[1]", "a"), None);
    }

    #[test]
    fn what_is_too_deep_hides_nothing_before_it() {
        let mut object = String::from(r#"{"a":1,"deep":"#);
        object.extend(core::iter::repeat_n('[', 200).chain(core::iter::repeat_n(']', 200)));
        object.push('}');
        assert_eq!((member(&object, "a"), member(&object, "deep")), (Some("1"), None));
    }
}

//! What a received packet says: a request or a response, read out of its body (PB-REQ-*, PB-RES-*, PB-OLD-*).
//!
//! A message owns the body it was read from; payload and data are places in it, never copies.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::ProtocolError;
use crate::header::{Header, Status, Version};
use crate::json;
use crate::limits::Limits;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    version: Version,
    body: String,
    method: Option<String>,
    payload: Option<Range<usize>>,
    timeout_ms: Option<u64>,
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
}

/// A bad response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    body: String,
    message: String,
    code: Option<String>,
    data: Option<Range<usize>>,
}

impl Request {
    /// The version of the packet, in which it wants to be answered.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The method's name; absent in a request that names none.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The payload as JSON text, exactly as it was sent; absent if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        slice(&self.body, self.payload.as_ref())
    }

    /// How many milliseconds the caller waits for the answer, if it says so (PB-CNV-*).
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    pub(crate) fn read(version: Version, body: Vec<u8>, limits: &Limits) -> Result<Self, ProtocolError> {
        let body = text(body)?;
        let keys = Keys::of(version);
        let (mut method, mut payload, mut timeout) = (None, None, None);
        json::members(&body, limits.max_depth(), |key, value| {
            if key == keys.method {
                method = Some(value);
            } else if key == keys.payload {
                payload = Some(value);
            } else if key == "timeout_ms" && version == Version::V1_1 {
                timeout = Some(value);
            }
        })?;
        let method = read_method(&body, method, &keys, limits)?;
        if version == Version::V1_0 && method.as_deref().unwrap_or_default().is_empty() {
            let found = if method.is_some() { "an empty one" } else { "nothing" };
            return Err(ProtocolError::InvalidMethod { key: keys.method, found });
        }
        let payload = not_null(&body, payload);
        let timeout_ms = slice(&body, timeout.as_ref()).and_then(milliseconds);
        Ok(Self { version, body, method, payload, timeout_ms })
    }
}

impl Response {
    /// The good response, if it is one.
    pub fn good(&self) -> Option<&Good> {
        match self {
            Self::Good(good) => Some(good),
            Self::Bad(_) => None,
        }
    }

    /// The bad response, if it is one.
    pub fn bad(&self) -> Option<&Bad> {
        match self {
            Self::Bad(bad) => Some(bad),
            Self::Good(_) => None,
        }
    }

    pub(crate) fn read(header: &Header, body: Vec<u8>, limits: &Limits) -> Result<Self, ProtocolError> {
        let body = text(body)?;
        let keys = Keys::of(header.version);
        let is_good = header.status == Status::GOOD;
        let (mut payload, mut message, mut code, mut data) = (None, None, None, None);
        json::members(&body, limits.max_depth(), |key, value| {
            if key == keys.payload {
                payload = Some(value);
            } else if key == keys.message {
                message = Some(value);
            } else if header.version == Version::V1_1 && key == "code" {
                code = Some(value);
            } else if header.version == Version::V1_1 && key == "data" {
                data = Some(value);
            }
        })?;
        if is_good {
            let payload = not_null(&body, payload);
            return Ok(Self::Good(Good { body, payload }));
        }
        let message = match slice(&body, not_null(&body, message).as_ref()) {
            None => "unknown server error".to_string(),
            // Node's package sends what was thrown, which need not be a string.
            Some(value) => {
                json::string(value).map_or_else(|| value.to_string(), |read| read.text.into_owned())
            }
        };
        let code = slice(&body, code.as_ref()).and_then(json::string).map(|read| read.text.into_owned());
        let data = not_null(&body, data);
        Ok(Self::Bad(Bad { body, message, code, data }))
    }
}

impl Good {
    /// The payload as JSON text, exactly as it was sent; absent if the response has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        slice(&self.body, self.payload.as_ref())
    }
}

impl Bad {
    /// The message, word for word; `unknown server error` if there was none.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable code, if the server gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What the server added, as JSON text.
    pub fn data(&self) -> Option<&str> {
        slice(&self.body, self.data.as_ref())
    }
}

/// The names of the three keys, by version.
pub(crate) struct Keys {
    pub(crate) method: &'static str,
    pub(crate) payload: &'static str,
    pub(crate) message: &'static str,
}

impl Keys {
    pub(crate) fn of(version: Version) -> Self {
        match version {
            Version::V1_0 => Self { method: "api", payload: "body", message: "msg" },
            Version::V1_1 => Self { method: "method", payload: "payload", message: "message" },
        }
    }
}

fn text(body: Vec<u8>) -> Result<String, ProtocolError> {
    String::from_utf8(body)
        .map_err(|error| ProtocolError::InvalidUtf8 { at: error.utf8_error().valid_up_to() })
}

fn slice<'a>(body: &'a str, place: Option<&Range<usize>>) -> Option<&'a str> {
    body.get(place?.clone())
}

/// An explicit null means the same as an absent key (PB-BODY-*).
fn not_null(body: &str, place: Option<Range<usize>>) -> Option<Range<usize>> {
    place.filter(|place| body.get(place.clone()) != Some("null"))
}

fn read_method(
    body: &str,
    place: Option<Range<usize>>,
    keys: &Keys,
    limits: &Limits,
) -> Result<Option<String>, ProtocolError> {
    let Some(value) = slice(body, not_null(body, place).as_ref()) else { return Ok(None) };
    let invalid = |found| ProtocolError::InvalidMethod { key: keys.method, found };
    let read = json::string(value).ok_or_else(|| invalid(json::kind(value)))?;
    if read.lossy {
        return Err(invalid("a string with half a surrogate pair"));
    }
    if read.text.len() > limits.max_method() as usize {
        return Err(ProtocolError::MethodTooLong { length: read.text.len(), limit: limits.max_method() });
    }
    Ok(Some(read.text.into_owned()))
}

/// A plain whole number of milliseconds that every language can hold; anything else counts as absent.
fn milliseconds(value: &str) -> Option<u64> {
    value.parse().ok().filter(|&number| number <= LARGEST_EXACT)
}

/// The largest integer that a double holds exactly together with all smaller ones.
pub(crate) const LARGEST_EXACT: u64 = (1 << 53) - 1;

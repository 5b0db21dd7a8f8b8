//! The error answer of a handler, which becomes a bad response.

use std::any::Any;
use std::borrow::Cow;

use procbridge_proto::{Misuse, Packet, Version, code, member};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::serialize::REFUSAL;

/// The error answer of a handler: a message for people, and optionally a stable code and data for programs.
///
/// Every error type turns into one with `?`, with its text as the message and no code. An [`Error`] that is another
/// server's error answer is passed on with its code and data.
///
/// ```
/// use procbridge::Refusal;
///
/// fn divide((a, b): (i64, i64)) -> Result<i64, Refusal> {
///     a.checked_div(b).ok_or_else(|| Refusal::new("division by zero").with_code("calc.zero").with_data(&(a, b)))
/// }
/// assert_eq!(divide((1, 0)).unwrap_err().code(), Some("calc.zero"));
/// ```
#[derive(Clone, Debug)]
pub struct Refusal {
    message: Cow<'static, str>,
    code: Option<Cow<'static, str>>,
    data: Option<Box<RawValue>>,
}

/// Serializes the members of a bad response.
impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct(REFUSAL, 3)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("code", &self.code)?;
        object.serialize_field("data", &self.data)?;
        object.end()
    }
}

impl Refusal {
    /// Returns a refusal with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), code: None, data: None }
    }

    /// Returns the answer to a method that does not exist, code `unknown_method`.
    pub fn unknown_method(method: Option<&str>) -> Self {
        let message = match method {
            Some(method) => format!("unknown method {method:?}"),
            None => "the request names no method".to_string(),
        };
        Self::new(message).with_code(code::UNKNOWN_METHOD)
    }

    /// Adds a stable code. An application's own codes contain a dot, as in `calc.overflow`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Adds data. Data that cannot be serialized is left out.
    #[must_use]
    pub fn with_data<T: Serialize + ?Sized>(mut self, data: &T) -> Self {
        let mut text = Vec::new();
        self.data = crate::json::serialize::write(&mut text, data)
            .ok()
            .and_then(|()| String::from_utf8(text).ok())
            .and_then(|text| RawValue::from_string(text).ok());
        self
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the code.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the data, as JSON text.
    pub fn data(&self) -> Option<&RawValue> {
        self.data.as_deref()
    }

    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(message).with_code(code::INTERNAL)
    }

    /// Returns the refusal for the serialized `Err` of a handler's result: a string is the message, anything else is
    /// data.
    pub(crate) fn from_json(text: &[u8]) -> Self {
        match serde_json::from_slice::<Box<RawValue>>(text) {
            Ok(data) => match serde_json::from_str::<String>(data.get()) {
                Ok(message) => Self::new(message),
                Err(_) => Self { data: Some(data), ..Self::new("the method returned an error") },
            },
            Err(_) => Self::internal("the method returned an error that is not JSON"),
        }
    }

    /// Parses a refusal that was serialized, as the `Err` of a handler's result is.
    pub(crate) fn read_back(text: &[u8]) -> Self {
        let object = std::str::from_utf8(text).unwrap_or_default();
        let string = |key| member(object, key).and_then(|text| serde_json::from_str::<String>(text).ok());
        let message = string("message").unwrap_or_default().into();
        let data = member(object, "data").filter(|data| *data != "null");
        let data = data.and_then(|data| RawValue::from_string(data.to_string()).ok());
        Self { message, code: string("code").map(Cow::from), data }
    }

    /// Returns the packet of this refusal.
    pub(crate) fn packet(&self, version: Version, limits: &procbridge_proto::Limits) -> Packet {
        let envelope = || Packet::bad(version, &self.message, self.code());
        let data = self.data.as_ref().map_or("null", |data| data.get());
        let whole = envelope().json_text(data).ok().and_then(|packet| packet.finish(limits).ok());
        // If that is too large, the data is left out; if the message alone is too large, it is replaced.
        let plain = || envelope().finish(limits).ok();
        whole.or_else(plain).unwrap_or_else(|| too_large(version))
    }
}

fn too_large(version: Version) -> Packet {
    let message = "the error message exceeds the size limit (max_body)";
    let packet =
        Packet::bad(version, message, Some(code::TOO_LARGE)).finish(&procbridge_proto::Limits::default());
    match packet {
        Ok(packet) => packet,
        Err(_) => unreachable!("a short constant message is under 16 MiB"),
    }
}

impl<E: std::error::Error + 'static> From<E> for Refusal {
    fn from(error: E) -> Self {
        let refused: Option<&Error> = (&error as &dyn Any).downcast_ref();
        match refused.and_then(Error::remote) {
            // The error answer of another server is passed on as it is.
            Some(remote) => Self {
                message: remote.message().to_string().into(),
                code: remote.code().map(|code| code.to_string().into()),
                data: remote.data().map(ToOwned::to_owned),
            },
            None => Self::new(error.to_string()),
        }
    }
}

pub(crate) fn panicked() -> Refusal {
    Refusal::internal("the method failed unexpectedly (panic)")
}

/// Returns the answer to a call past its deadline.
pub(crate) fn timed_out() -> Refusal {
    Refusal::new("the method did not finish within its timeout").with_code(code::TIMEOUT)
}

/// Returns the answer to a call that did not finish within the grace time of a shutdown.
pub(crate) fn cancelled() -> Refusal {
    Refusal::new("the server stopped before the method finished").with_code(code::CANCELLED)
}

/// Returns the answer to a call that its caller has cancelled.
pub(crate) fn cancelled_by_caller() -> Refusal {
    Refusal::new("the caller cancelled the call").with_code(code::CANCELLED)
}

/// Returns the answer to a call beyond a limit. `setting` names the limit.
pub(crate) fn overloaded(what: &str, limit: usize, setting: &str) -> Refusal {
    Refusal::new(format!("the server has reached its limit of {what} ({setting} = {limit})"))
        .with_code(code::OVERLOADED)
}

/// Returns the answer to a request that had not arrived when the server began to shut down.
pub(crate) fn stopping() -> Refusal {
    Refusal::new("the server is stopping").with_code(code::UNAVAILABLE)
}

/// Returns the answer to a request that arrives too slowly.
pub(crate) fn too_slow() -> Refusal {
    Refusal::new("the request did not arrive in time (header_timeout)").with_code(code::TIMEOUT)
}

/// Returns the answer to a peer of another user.
pub(crate) fn denied() -> Refusal {
    Refusal::new("only the server's own user may connect (allow_any_user)").with_code(code::DENIED)
}

pub(crate) fn unsendable(error: Misuse) -> Refusal {
    Refusal::new(format!("the result cannot be sent: {error}")).with_code(code::TOO_LARGE)
}

//! The error answer of a handler, which becomes a bad response.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use procbridge_proto::{Misuse, Packet, Version, code};
use serde::ser::Serialize;
use serde_json::value::RawValue;

/// The error answer to a call: a message for people, and optionally a stable code and data for programs.
///
/// A handler returns it, and the caller gets it with [`Error::remote`](crate::Error::remote). With `?` every error type
/// becomes one, as do `String`, `&str`, `Box<dyn Error + Send + Sync>` and `anyhow::Error`. The message is then the text
/// of the error and of its [sources](Error::source), and there is no code. The error answer of another server is passed
/// on with its code and data.
///
/// ```
/// use procbridge::ReplyError;
///
/// fn divide((a, b): (i64, i64)) -> Result<i64, ReplyError> {
///     a.checked_div(b).ok_or_else(|| ReplyError::new("division by zero").with_code("calc.zero").with_data(&(a, b)))
/// }
/// assert_eq!(divide((1, 0)).unwrap_err().code(), Some("calc.zero"));
/// ```
#[derive(Clone)]
pub struct ReplyError {
    message: Cow<'static, str>,
    code: Option<Cow<'static, str>>,
    data: Option<Box<RawValue>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ReplyError {
    /// Returns an error with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), code: None, data: None, source: None }
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

    /// Returns the error that this one was made from by `?`, if it is an `E`. A [layer](crate::Router::layer) can tell
    /// by it which code to add. It does not travel: a caller never has it.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.source.as_ref()?.downcast_ref()
    }

    /// Adds data that is JSON text.
    pub(crate) fn with_raw_data(mut self, data: Option<Box<RawValue>>) -> Self {
        self.data = data;
        self
    }

    /// Returns this error with the code and data of another one.
    pub(crate) fn with_code_and_data_of(self, other: Self) -> Self {
        Self { code: other.code, data: other.data, ..self }
    }

    /// Returns the answer for an error of a handler: its text and that of its sources.
    pub(crate) fn of_source(source: Box<dyn Error + Send + Sync>) -> Self {
        let mut message = source.to_string();
        let mut next = source.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Many errors have their source's text in their own.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            next = cause.source();
        }
        Self { source: Some(source.into()), ..Self::new(message) }
    }

    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(message).with_code(code::INTERNAL)
    }

    /// Returns the answer for the serialized `Err` of a handler's result: a string is the message, anything else is
    /// data.
    pub(crate) fn from_json(text: &[u8]) -> Self {
        match serde_json::from_slice::<Box<RawValue>>(text) {
            Ok(data) => match serde_json::from_str::<String>(data.get()) {
                Ok(message) => Self::new(message),
                Err(_) => Self::new("the method returned an error").with_raw_data(Some(data)),
            },
            Err(_) => Self::internal("the method returned an error that is not JSON"),
        }
    }

    /// Returns the packet of this error.
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

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, code, data, .. } = self;
        f.debug_struct("ReplyError")
            .field("message", message)
            .field("code", code)
            .field("data", data)
            .finish_non_exhaustive()
    }
}

pub(crate) fn panicked() -> ReplyError {
    ReplyError::internal("the method failed unexpectedly (panic)")
}

/// Returns the answer to a call past its deadline.
pub(crate) fn timed_out() -> ReplyError {
    ReplyError::new("the method did not finish within its timeout").with_code(code::TIMEOUT)
}

/// Returns the answer to a call that did not finish within the grace time of a shutdown.
pub(crate) fn cancelled() -> ReplyError {
    ReplyError::new("the server stopped before the method finished").with_code(code::CANCELLED)
}

/// Returns the answer to a call that its caller has cancelled.
pub(crate) fn cancelled_by_caller() -> ReplyError {
    ReplyError::new("the caller cancelled the call").with_code(code::CANCELLED)
}

/// Returns the answer to a call beyond a limit. `setting` names the limit.
pub(crate) fn overloaded(what: &str, limit: usize, setting: &str) -> ReplyError {
    ReplyError::new(format!("the server has reached its limit of {what} ({setting} = {limit})"))
        .with_code(code::OVERLOADED)
}

/// Returns the answer to a call that has run, and whose answer found no space because a limit is reached. It is not
/// `overloaded`: a caller may send such a call again.
pub(crate) fn answer_lost(reached: &ReplyError) -> ReplyError {
    ReplyError::new(format!("the call has run, but its answer is lost: {reached}")).with_code(code::TOO_LARGE)
}

/// Returns the answer to a request that had not arrived when the server began to shut down.
pub(crate) fn stopping() -> ReplyError {
    ReplyError::new("the server is stopping").with_code(code::UNAVAILABLE)
}

/// Returns the answer to a request that arrives too slowly.
pub(crate) fn too_slow() -> ReplyError {
    ReplyError::new("the request did not arrive in time (header_timeout)").with_code(code::TIMEOUT)
}

/// Returns the answer to a peer of another user.
pub(crate) fn denied() -> ReplyError {
    ReplyError::new("only the server's own user may connect (allow_any_user)").with_code(code::DENIED)
}

pub(crate) fn unsendable(error: Misuse) -> ReplyError {
    ReplyError::new(format!("the result cannot be sent: {error}")).with_code(code::TOO_LARGE)
}

//! The good response to a call, while it is being written.

use std::fmt;

use procbridge_proto::PacketBuilder;
use serde::Serialize;

#[cfg(feature = "anyhow")]
use crate::error::Error;
use crate::json::serialize::{self, Written};
use crate::reply_error::ReplyError;
use crate::service::form;

/// A good response that is being written.
pub struct Reply {
    pub(crate) packet: PacketBuilder,
}

/// A value that a handler may return. You need not implement it: it is implemented for everything that serde can write,
/// and for a `Result` whose error is [`IntoReplyError`].
///
/// `Form` only distinguishes the implementations.
#[diagnostic::on_unimplemented(
    message = "a method cannot return `{Self}`",
    label = "this is neither JSON nor a `Result` of JSON and an error",
    note = "the value needs `#[derive(serde::Serialize)]`",
    note = "an error needs `std::error::Error + Send + Sync`, `Serialize` or `IntoReplyError`; or return `Result<_, ReplyError>` and use `?`"
)]
pub trait IntoReply<Form> {
    /// Writes the value.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    fn write_to(self, reply: Reply) -> Result<Reply, ReplyError>;
}

impl<T: Serialize> IntoReply<form::Value> for T {
    fn write_to(self, reply: Reply) -> Result<Reply, ReplyError> {
        reply.write(&self)
    }
}

impl<T: Serialize, E: IntoReplyError<Kind>, Kind> IntoReply<form::Fallible<Kind>> for Result<T, E> {
    fn write_to(self, reply: Reply) -> Result<Reply, ReplyError> {
        reply.write(&self.map_err(E::into_reply_error)?)
    }
}

/// An error that a handler may return. It is implemented for
///
/// - every `std::error::Error + Send + Sync`, with the text of its sources, and `Box<dyn Error + Send + Sync>`;
/// - `anyhow::Error`, with the feature `anyhow`;
/// - [`ReplyError`].
///
/// A `String` or a `&str` is an error too, as anything that serde can write: a string is the message, and anything else
/// the data. Convert an error type that has both `Error` and `Serialize`, as in `.map_err(ReplyError::from)`: the
/// compiler cannot tell which of both is meant.
///
/// Implement it for a type of your own to give its errors a code. The type must have neither `Error` nor `Serialize`.
/// [`layers::map_error`](crate::layers::map_error) gives codes to types that have `Error`.
///
/// ```
/// use procbridge::{IntoReplyError, ReplyError, Router};
///
/// enum Fault { Empty }
///
/// impl IntoReplyError for Fault {
///     fn into_reply_error(self) -> ReplyError {
///         match self {
///             Self::Empty => ReplyError::new("no numbers").with_code("calc.empty"),
///         }
///     }
/// }
///
/// let router = Router::new().method("max", |xs: Vec<i64>| xs.into_iter().max().ok_or(Fault::Empty));
/// ```
///
/// `Kind` only distinguishes the implementations.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no error that a method can return",
    note = "it needs `std::error::Error + Send + Sync + 'static`, `Serialize` or `IntoReplyError`"
)]
pub trait IntoReplyError<Kind = form::Own> {
    /// Returns the error to answer with.
    fn into_reply_error(self) -> ReplyError;
}

impl<E: std::error::Error + Send + Sync + 'static> IntoReplyError<form::StdError> for E {
    fn into_reply_error(self) -> ReplyError {
        self.into()
    }
}

impl IntoReplyError<form::Boxed> for Box<dyn std::error::Error + Send + Sync> {
    fn into_reply_error(self) -> ReplyError {
        self.into()
    }
}

#[cfg(feature = "anyhow")]
impl IntoReplyError<form::Anyhow> for anyhow::Error {
    fn into_reply_error(self) -> ReplyError {
        let outermost = self.chain().next().and_then(|error| error.downcast_ref());
        outermost.and_then(Error::remote).cloned().unwrap_or_else(|| self.into())
    }
}

impl IntoReplyError<form::Reply> for ReplyError {
    fn into_reply_error(self) -> ReplyError {
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    pub(crate) fn of(packet: PacketBuilder) -> Self {
        Self { packet }
    }

    /// Writes the value that a handler returned.
    ///
    /// # Errors
    ///
    /// The error to answer with instead: the `Err` of a result, or that the value cannot be sent.
    pub fn write<R: Serialize>(self, result: &R) -> Result<Self, ReplyError> {
        let write = |out: &mut Vec<u8>| {
            let start = out.len();
            let written = serialize::write_result(out, result);
            let text = out.get(start..).unwrap_or_default();
            match written {
                Ok(Written::Value) => Ok(()),
                Ok(Written::Error) => Err(ReplyError::from_json(text)),
                Err(error) => Err(ReplyError::internal(format!("the result cannot be sent: {error}"))),
            }
        };
        self.packet.write(write).map(Self::of)
    }

    /// Lets `write` append a result that is JSON text already.
    pub(crate) fn write_text(self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Self, ReplyError> {
        let write = |out: &mut Vec<u8>| {
            write(out);
            Ok(())
        };
        self.packet.write(write).map(Self::of)
    }
}

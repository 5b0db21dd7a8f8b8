//! Turns plain functions into handlers: the argument is read from the payload, the return value is the answer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::item_sink::ItemSink;
use crate::reply_error::Refusal;
use crate::service::arguments::payload;
pub use crate::service::arguments::{Context, ContextAndPayload, Nothing, Payload};
use crate::service::call::Call;
pub use crate::service::reply::Reply;

/// A function that answers calls. You write the function; this trait is implemented for you:
///
/// - `fn() -> R`
/// - `fn(T) -> R`, with `T` any type that serde can read: a struct, a tuple filled from an array, or a `Value`.
///   `Box<RawValue>` keeps the payload's text exactly as it was sent.
/// - `fn(&Call) -> R` and `fn(&Call, T) -> R`
///
/// `R` is anything that serde can write, or a `Result` of that. An `Err` becomes a bad response: a [`Refusal`] as it
/// is, a string as the message, any other serialisable value as data. With `?` every error becomes a [`Refusal`].
/// `Box<RawValue>` is sent as the text that it is. A float that is not finite cannot be sent and becomes a bad
/// response. So does a panic, unless the program is built to abort.
///
/// `Args` only distinguishes the implementations.
pub trait Handler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    fn handle(&self, call: &Call, reply: Reply) -> Result<Reply, Refusal>;
}

impl<F, R> Handler<Nothing<R>> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Serialize,
{
    fn handle(&self, _: &Call, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self())
    }
}

impl<F, R> Handler<Context<R>> for F
where
    F: Fn(&Call) -> R + Send + Sync + 'static,
    R: Serialize,
{
    fn handle(&self, call: &Call, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(call))
    }
}

impl<F, T, R> Handler<Payload<T, R>> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    T: DeserializeOwned,
    R: Serialize,
{
    fn handle(&self, call: &Call, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(payload(call)?))
    }
}

impl<F, T, R> Handler<ContextAndPayload<T, R>> for F
where
    F: Fn(&Call, T) -> R + Send + Sync + 'static,
    T: DeserializeOwned,
    R: Serialize,
{
    fn handle(&self, call: &Call, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(call, payload(call)?))
    }
}

/// A function that answers calls with a stream of items. You write the function; this trait is implemented for you:
///
/// - `fn(&mut ItemSink) -> R`
/// - `fn(T, &mut ItemSink) -> R`
/// - `fn(&Call, T, &mut ItemSink) -> R`
///
/// with `T` and `R` as in [`Handler`]. The stream ends when the function returns. Its return value is the call's own
/// result, which most callers ignore; an `Err` ends the stream with that error.
pub trait StreamHandler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    fn handle(&self, call: &Call, items: &mut ItemSink, reply: Reply) -> Result<Reply, Refusal>;
}

impl<F, R> StreamHandler<Nothing<R>> for F
where
    F: Fn(&mut ItemSink) -> R + Send + Sync + 'static,
    R: Serialize,
{
    fn handle(&self, _: &Call, items: &mut ItemSink, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(items))
    }
}

impl<F, T, R> StreamHandler<Payload<T, R>> for F
where
    F: Fn(T, &mut ItemSink) -> R + Send + Sync + 'static,
    T: DeserializeOwned,
    R: Serialize,
{
    fn handle(&self, call: &Call, items: &mut ItemSink, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(payload(call)?, items))
    }
}

impl<F, T, R> StreamHandler<ContextAndPayload<T, R>> for F
where
    F: Fn(&Call, T, &mut ItemSink) -> R + Send + Sync + 'static,
    T: DeserializeOwned,
    R: Serialize,
{
    fn handle(&self, call: &Call, items: &mut ItemSink, reply: Reply) -> Result<Reply, Refusal> {
        reply.write(&self(call, payload(call)?, items))
    }
}

//! Plain functions become handlers: what a function takes is read from the payload, what it returns is the answer.

use std::fmt;
use std::marker::PhantomData;

use procbridge_proto::{PacketBuilder, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ItemSink;
use crate::json::raw_value::raw_value;
use crate::json::serialize::{self, Written};
use crate::reply_error::Refusal;
use crate::service::call::Call;

/// A function that can answer calls. You write the function; this is implemented for you:
///
/// - `fn() -> R`
/// - `fn(T) -> R`, with `T` anything that serde can read: a struct, a tuple filled from an array, a `Value`, or
///   `Box<RawValue>` for the payload's text exactly as it was sent
/// - `fn(&Call) -> R` and `fn(&Call, T) -> R`
///
/// `R` is anything that serde can write, or a `Result` of that. An `Err` is answered as a bad response: a
/// [`Refusal`] as it is, a string as the message, anything else that can be serialised as data. With `?` every
/// error becomes a [`Refusal`]. `Box<RawValue>` goes out as the text that it is. A float that is not finite cannot be
/// answered and becomes a bad response, as does a panic (unless the program is built to abort).
///
/// `Args` only tells the implementations apart.
pub trait Handler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The refusal that is to be answered.
    fn handle(&self, call: &Call, reply: Reply) -> Result<Reply, Refusal>;
}

/// A good response that is being written.
pub struct Reply {
    pub(crate) packet: PacketBuilder,
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

    /// Writes what a handler returned.
    ///
    /// # Errors
    ///
    /// The refusal that is to be answered instead: the `Err` of a result, or that the value cannot be sent.
    pub fn write<R: Serialize>(self, result: &R) -> Result<Self, Refusal> {
        let write = |out: &mut Vec<u8>| {
            let start = out.len();
            let written = serialize::write_result(out, result);
            let text = out.get(start..).unwrap_or_default();
            match written {
                Ok(Written::Value) => Ok(()),
                Ok(Written::Error) => Err(Refusal::from_json(text)),
                Ok(Written::Refusal) => Err(Refusal::read_back(text)),
                Err(error) => Err(Refusal::internal(format!("the result cannot be sent: {error}"))),
            }
        };
        self.packet.write(write).map(Self::of)
    }

    /// Has `write` append a result that is JSON text already.
    pub(crate) fn write_text(self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Self, Refusal> {
        let write = |out: &mut Vec<u8>| {
            write(out);
            Ok(())
        };
        self.packet.write(write).map(Self::of)
    }
}

/// `fn() -> R`
#[derive(Debug)]
pub struct Nothing<R>(PhantomData<fn() -> R>);
/// `fn(&Call) -> R`
#[derive(Debug)]
pub struct Context<R>(PhantomData<fn() -> R>);
/// `fn(T) -> R`
#[derive(Debug)]
pub struct Payload<T, R>(PhantomData<fn(T) -> R>);
/// `fn(&Call, T) -> R`
#[derive(Debug)]
pub struct ContextAndPayload<T, R>(PhantomData<fn(T) -> R>);

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

/// A function that can answer calls with a stream of items. You write the function; this is implemented for you:
///
/// - `fn(&mut ItemSink) -> R`
/// - `fn(T, &mut ItemSink) -> R`
/// - `fn(&Call, T, &mut ItemSink) -> R`
///
/// with `T` and `R` as in [`Handler`]. The stream ends when the function returns. What it returns is the call's own result,
/// which most callers do not look at; an `Err` ends the stream with that error.
pub trait StreamHandler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The refusal that is to be answered.
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

/// Reads the payload as what the handler takes; an absent one as `null`.
pub(crate) fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    let text = call.payload().unwrap_or("null");
    match raw_value(|| text.to_string()) {
        Some(payload) => Ok(payload),
        None => serde_json::from_str(text).map_err(|error| invalid_payload(call, &error)),
    }
}

fn invalid_payload(call: &Call, error: &serde_json::Error) -> Refusal {
    let method = call.method().unwrap_or_default();
    Refusal::new(format!("invalid payload for {method:?}: {}", serialize::mismatch(error)))
        .with_code(code::INVALID_PAYLOAD)
}

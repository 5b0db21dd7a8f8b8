//! Plain functions become handlers: what a function takes is read from the payload, what it returns is the answer.

use std::fmt;
use std::marker::PhantomData;

use procbridge_proto::{PacketBuilder, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::json::{self, Written};
use crate::refusal::Refusal;

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
pub struct Reply(pub(crate) PacketBuilder);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    /// Writes what a handler returned.
    ///
    /// # Errors
    ///
    /// The refusal that is to be answered instead: the `Err` of a result, or that the value cannot be sent.
    pub fn write<R: Serialize>(self, result: &R) -> Result<Self, Refusal> {
        let write = |out: &mut Vec<u8>| {
            let start = out.len();
            let written = json::write_result(out, result);
            let text = out.get(start..).unwrap_or_default();
            match written {
                Ok(Written::Value) => Ok(()),
                Ok(Written::Error) => Err(Refusal::from_json(text)),
                Ok(Written::Refusal) => Err(Refusal::read_back(text)),
                Err(error) => Err(Refusal::internal(format!("the result cannot be sent: {error}"))),
            }
        };
        self.0.write(write).map(Self)
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

/// Reads the payload as what the handler takes; an absent one as `null`.
pub(crate) fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    serde_json::from_str(call.payload().unwrap_or("null")).map_err(|error| invalid_payload(call, &error))
}

fn invalid_payload(call: &Call, error: &serde_json::Error) -> Refusal {
    let method = call.method().unwrap_or_default();
    Refusal::new(format!("invalid payload for {method:?}: {}", json::mismatch(error)))
        .with_code(code::INVALID_PAYLOAD)
}

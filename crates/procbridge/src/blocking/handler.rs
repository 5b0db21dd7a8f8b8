//! Turns plain functions into handlers: the argument is read from the payload, the return value is the answer.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::blocking::item_sink::ItemSink;
use crate::reply_error::ReplyError;
use crate::service::arguments::payload;
use crate::service::call::Call;
use crate::service::form::{
    Context, ContextAndPayload, Nothing, Payload, State, StateAndPayload, StateContextAndPayload,
};
use crate::service::reply::IntoReply;
pub use crate::service::reply::Reply;

/// A function that answers calls. You write the function; this trait is implemented for you:
///
/// - `fn() -> R`
/// - `fn(T) -> R`, with `T` any type that serde can read: a struct, a tuple filled from an array, or a `Value`.
///   `Box<RawValue>` keeps the payload's text exactly as it was sent.
/// - `fn(&Call) -> R` and `fn(&Call, T) -> R`
/// - `fn(&S) -> R`, `fn(&S, T) -> R` and `fn(&S, &Call, T) -> R` in a router [with state](crate::Router::with_state)
///
/// `R` is anything that serde can write, or a `Result` of that. An `Err` becomes a bad response. A [`ReplyError`] is sent as
/// it is. Any other [error](crate::IntoReplyError) and any string is the message. Any other serialisable value is data.
/// With `?` every error becomes a [`ReplyError`]. `Box<RawValue>` is sent as the text that it is. A float that is not
/// finite cannot be sent and becomes a bad response. So does a panic, unless the program is built to abort.
///
/// `Args` only distinguishes the implementations.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer calls",
    label = "this is no handler of a blocking router",
    note = "a handler has at most one argument besides `&Call` and the router's state: several values are one tuple, as in `|(a, b): (i64, i64)|`",
    note = "the argument is read by serde: it needs `#[derive(serde::Deserialize)]`, its type must be written in a closure, and it borrows nothing",
    note = "the result needs `#[derive(serde::Serialize)]`, and the error of a `Result` `std::error::Error + Send + Sync`, `Serialize` or `IntoReplyError`",
    note = "an async function belongs in a `procbridge::tokio::Router`"
)]
pub trait Handler<Args, S = ()>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    fn handle(&self, state: &Arc<S>, call: &Call, reply: Reply) -> Result<Reply, ReplyError>;
}

/// A function that answers calls with a stream of items. You write the function; this trait is implemented for you:
///
/// - `fn(&mut ItemSink) -> R`
/// - `fn(T, &mut ItemSink) -> R`
/// - `fn(&Call, T, &mut ItemSink) -> R`
/// - `fn(&S, T, &mut ItemSink) -> R` and `fn(&S, &Call, T, &mut ItemSink) -> R` in a router
///   [with state](crate::Router::with_state)
///
/// with `T` and `R` as in [`Handler`]. The stream ends when the function returns. Its return value is the call's own
/// result, which most callers ignore; an `Err` ends the stream with that error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer calls with items",
    label = "this is no streaming handler of a blocking router",
    note = "its last argument is `&mut ItemSink`, before that at most one value of the payload: several values are one tuple",
    note = "the argument is read by serde: it needs `#[derive(serde::Deserialize)]`, and its type must be written in a closure",
    note = "an async function belongs in a `procbridge::tokio::Router`"
)]
pub trait StreamHandler<Args, S = ()>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The error to answer with.
    fn handle(
        &self,
        state: &Arc<S>,
        call: &Call,
        items: &mut ItemSink,
        reply: Reply,
    ) -> Result<Reply, ReplyError>;
}

/// Implements [`Handler`] for functions with these arguments.
macro_rules! handlers {
    ($($form:ty: fn($($argument:ty),*) $(with $payload:ident)? = |$state:pat_param, $call:pat_param| ($($value:expr),*);)*) => {$(
        impl<F, S, R, M $(, $payload)?> Handler<($form, M), S> for F
        where
            F: Fn($($argument),*) -> R + Send + Sync + 'static,
            R: IntoReply<M>,
            $($payload: DeserializeOwned,)?
        {
            fn handle(&self, $state: &Arc<S>, $call: &Call, reply: Reply) -> Result<Reply, ReplyError> {
                self($($value),*).write_to(reply)
            }
        }
    )*};
}

handlers! {
    Nothing: fn() = |_, _| ();
    Context: fn(&Call) = |_, call| (call);
    Payload<T>: fn(T) with T = |_, call| (payload(call)?);
    ContextAndPayload<T>: fn(&Call, T) with T = |_, call| (call, payload(call)?);
    State: fn(&S) = |state, _| (state);
    StateAndPayload<T>: fn(&S, T) with T = |state, call| (state, payload(call)?);
    StateContextAndPayload<T>: fn(&S, &Call, T) with T = |state, call| (state, call, payload(call)?);
}

/// Implements [`StreamHandler`] for functions with these arguments, and the items behind them.
macro_rules! stream_handlers {
    ($($form:ty: fn($($argument:ty),*) $(with $payload:ident)? = |$state:pat_param, $call:pat_param| ($($value:expr),*);)*) => {$(
        impl<F, S, R, M $(, $payload)?> StreamHandler<($form, M), S> for F
        where
            F: Fn($($argument,)* &mut ItemSink) -> R + Send + Sync + 'static,
            R: IntoReply<M>,
            $($payload: DeserializeOwned,)?
        {
            fn handle(
                &self,
                $state: &Arc<S>,
                $call: &Call,
                items: &mut ItemSink,
                reply: Reply,
            ) -> Result<Reply, ReplyError> {
                self($($value,)* items).write_to(reply)
            }
        }
    )*};
}

stream_handlers! {
    Nothing: fn() = |_, _| ();
    Payload<T>: fn(T) with T = |_, call| (payload(call)?);
    ContextAndPayload<T>: fn(&Call, T) with T = |_, call| (call, payload(call)?);
    StateAndPayload<T>: fn(&S, T) with T = |state, call| (state, payload(call)?);
    StateContextAndPayload<T>: fn(&S, &Call, T) with T = |state, call| (state, call, payload(call)?);
}

//! Turns async functions into handlers: the argument is read from the payload, the return value is the answer.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::reply_error::ReplyError;
use crate::service::arguments::payload;
use crate::service::form::{
    Context, ContextAndPayload, Nothing, Payload, State, StateAndPayload, StateContextAndPayload,
};
use crate::service::reply::IntoReply;
pub use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::item_sink::ItemSink;

/// An async function that answers calls. You write the function; this trait is implemented for you:
///
/// - `async fn() -> R`
/// - `async fn(T) -> R`, with `T` any type that serde can read: a struct, a tuple filled from an array, or a `Value`.
///   `Box<RawValue>` keeps the payload's text exactly as it was sent.
/// - `async fn(Call) -> R` and `async fn(Call, T) -> R`
/// - `async fn(Arc<S>) -> R`, `async fn(Arc<S>, T) -> R` and `async fn(Arc<S>, Call, T) -> R` in a router [with
///   state](crate::tokio::Router::with_state)
///
/// and for closures that return such a future, as in `|xs: Vec<i64>| async move { xs.len() }`. The future must be
/// `Send` and own what it uses.
///
/// `R` is anything that serde can write, or a `Result` of that. An `Err` becomes a bad response. A [`ReplyError`] is sent as
/// it is. Any other [error](crate::IntoReplyError) and any string is the message. Any other serialisable value is data.
/// With `?` every error becomes a [`ReplyError`]. `Box<RawValue>` is sent as the text that it is. A float that is not
/// finite cannot be sent and becomes a bad response. So does a panic, unless the program is built to abort.
///
/// `Args` only distinguishes the implementations.
///
/// # Blocking
///
/// A handler should not block. In a session, its beginning up to the first wait runs in the task that reads the
/// session. A payload of 64 KiB or more gives it a task of its own. A beginning of more than half a millisecond delays
/// the other calls of that client, once. The next calls of the method begin in tasks of their own, until 64 beginnings
/// in a row were quick. A blocked handler still blocks a thread of the runtime, and stops a runtime that has only one.
/// Calls that begin in tasks of their own may begin in another order than they arrived. Blocking work belongs in
/// [`spawn_blocking`](::tokio::task::spawn_blocking), or in a [`procbridge::Router`](crate::Router).
///
/// # Cancel safety
///
/// The future is dropped, wherever it waits, when the call's [deadline](crate::Call::deadline) or the server's drain
/// timeout has passed. In a session it is also dropped when its caller cancels the call or disconnects, unless the call
/// is [one-way](crate::Call::is_one_way). A caller on a connection of its own that disconnects does not drop it. Work
/// that must finish in any case belongs in a task of its own; [`Call::is_cancelled`](crate::Call::is_cancelled) is true
/// there too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer calls",
    label = "this is no handler of a tokio router",
    note = "a handler of this router is an async function, or a closure that returns a future: `async fn(i64) -> i64`; blocking functions belong in a `procbridge::Router`, which `Router::from` converts",
    note = "it has at most one argument besides `Call` and the router's state: several values are one tuple, as in `|(a, b): (i64, i64)|`",
    note = "the argument is read by serde: it needs `#[derive(serde::Deserialize)]`, its type must be written in a closure, and it borrows nothing",
    note = "the result needs `#[derive(serde::Serialize)]`, and the error of a `Result` `std::error::Error + Send + Sync`, `Serialize` or `IntoReplyError`",
    note = "the future must be `Send`"
)]
pub trait Handler<Args, S = ()>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The future's error is the error to answer with.
    fn handle(
        &self,
        state: &Arc<S>,
        call: Call,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, ReplyError>> + Send + 'static;
}

/// Implements [`Handler`] for async functions with these arguments.
macro_rules! handlers {
    ($($form:ty: fn($($argument:ty),*) $(with $payload:ident as $read:ident)? = |$state:pat_param, $call:ident| ($($value:expr),*);)*) => {$(
        impl<F, S, T, M $(, $payload)?> Handler<($form, M), S> for F
        where
            F: Fn($($argument),*) -> T + Send + Sync + 'static,
            T: Future + Send + 'static,
            T::Output: IntoReply<M>,
            $($payload: DeserializeOwned,)?
        {
            fn handle(
                &self,
                $state: &Arc<S>,
                $call: Call,
                reply: Reply,
            ) -> impl Future<Output = Result<Reply, ReplyError>> + Send + 'static {
                let begin = || {
                    $(let $read: $payload = payload(&$call)?;)?
                    Ok::<T, ReplyError>(self($($value),*))
                };
                let handled = begin();
                async move { handled?.await.write_to(reply) }
            }
        }
    )*};
}

handlers! {
    Nothing: fn() = |_, _call| ();
    Context: fn(Call) = |_, call| (call);
    Payload<A>: fn(A) with A as read = |_, call| (read);
    ContextAndPayload<A>: fn(Call, A) with A as read = |_, call| (call, read);
    State: fn(Arc<S>) = |state, _call| (state.clone());
    StateAndPayload<A>: fn(Arc<S>, A) with A as read = |state, call| (state.clone(), read);
    StateContextAndPayload<A>: fn(Arc<S>, Call, A) with A as read = |state, call| (state.clone(), call, read);
}

/// An async function that answers calls with a stream of items. You write the function; this trait is implemented for
/// you:
///
/// - `async fn(ItemSink) -> R`
/// - `async fn(T, ItemSink) -> R`
/// - `async fn(Call, T, ItemSink) -> R`
/// - `async fn(Arc<S>, T, ItemSink) -> R` and `async fn(Arc<S>, Call, T, ItemSink) -> R` in a router [with
///   state](crate::tokio::Router::with_state)
///
/// with `T` and `R` as in [`Handler`]. The stream ends when the future is ready. Its return value is the call's own
/// result, which most callers ignore; an `Err` ends the stream with that error.
///
/// # Cancel safety
///
/// As [`Handler`]. A stream has no timeout but its caller's own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer calls with items",
    label = "this is no streaming handler of a tokio router",
    note = "a handler of this router is an async function, or a closure that returns a future",
    note = "its last argument is `ItemSink`, before that at most one value of the payload: several values are one tuple",
    note = "the argument is read by serde: it needs `#[derive(serde::Deserialize)]`, and its type must be written in a closure",
    note = "the future must be `Send`"
)]
pub trait StreamHandler<Args, S = ()>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The future's error is the error to answer with.
    fn handle(
        &self,
        state: &Arc<S>,
        call: Call,
        items: ItemSink,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, ReplyError>> + Send + 'static;
}

/// Implements [`StreamHandler`] for async functions with these arguments, and the items behind them.
macro_rules! stream_handlers {
    ($($form:ty: fn($($argument:ty),*) $(with $payload:ident as $read:ident)? = |$state:pat_param, $call:ident| ($($value:expr),*);)*) => {$(
        impl<F, S, T, M $(, $payload)?> StreamHandler<($form, M), S> for F
        where
            F: Fn($($argument,)* ItemSink) -> T + Send + Sync + 'static,
            T: Future + Send + 'static,
            T::Output: IntoReply<M>,
            $($payload: DeserializeOwned,)?
        {
            fn handle(
                &self,
                $state: &Arc<S>,
                $call: Call,
                items: ItemSink,
                reply: Reply,
            ) -> impl Future<Output = Result<Reply, ReplyError>> + Send + 'static {
                let begin = || {
                    $(let $read: $payload = payload(&$call)?;)?
                    Ok::<T, ReplyError>(self($($value,)* items))
                };
                let handled = begin();
                async move { handled?.await.write_to(reply) }
            }
        }
    )*};
}

stream_handlers! {
    Nothing: fn() = |_, _call| ();
    Payload<A>: fn(A) with A as read = |_, call| (read);
    ContextAndPayload<A>: fn(Call, A) with A as read = |_, call| (call, read);
    StateAndPayload<A>: fn(Arc<S>, A) with A as read = |state, call| (state.clone(), read);
    StateContextAndPayload<A>: fn(Arc<S>, Call, A) with A as read = |state, call| (state.clone(), call, read);
}

//! Turns async functions into handlers: the argument is read from the payload, the return value is the answer.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::reply_error::Refusal;
use crate::service::arguments::payload;
pub use crate::service::arguments::{Context, ContextAndPayload, Nothing, Payload};
pub use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::item_sink::ItemSink;

/// An async function that answers calls. You write the function; this trait is implemented for you:
///
/// - `async fn() -> R`
/// - `async fn(T) -> R`, with `T` any type that serde can read: a struct, a tuple filled from an array, or a `Value`.
///   `Box<RawValue>` keeps the payload's text exactly as it was sent.
/// - `async fn(Call) -> R` and `async fn(Call, T) -> R`
///
/// and for closures that return such a future, as in `|xs: Vec<i64>| async move { xs.len() }`. The future must be
/// `Send` and own what it uses.
///
/// `R` is anything that serde can write, or a `Result` of that. An `Err` becomes a bad response: a [`Refusal`] as it
/// is, a string as the message, any other serialisable value as data. With `?` every error becomes a [`Refusal`].
/// `Box<RawValue>` is sent as the text that it is. A float that is not finite cannot be sent and becomes a bad
/// response. So does a panic, unless the program is built to abort.
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
pub trait Handler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The future's error is the refusal to answer with.
    fn handle(
        &self,
        call: Call,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static;
}

impl<F, T, R> Handler<Nothing<T>> for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(&self, _: Call, reply: Reply) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = self();
        async move { reply.write(&handled.await) }
    }
}

impl<F, T, R> Handler<Context<T>> for F
where
    F: Fn(Call) -> T + Send + Sync + 'static,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        call: Call,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = self(call);
        async move { reply.write(&handled.await) }
    }
}

impl<F, A, T, R> Handler<Payload<A, T>> for F
where
    F: Fn(A) -> T + Send + Sync + 'static,
    A: DeserializeOwned,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        call: Call,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = payload(&call).map(self);
        async move { reply.write(&handled?.await) }
    }
}

impl<F, A, T, R> Handler<ContextAndPayload<A, T>> for F
where
    F: Fn(Call, A) -> T + Send + Sync + 'static,
    A: DeserializeOwned,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        call: Call,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = payload(&call).map(|payload| self(call, payload));
        async move { reply.write(&handled?.await) }
    }
}

/// An async function that answers calls with a stream of items. You write the function; this trait is implemented for
/// you:
///
/// - `async fn(ItemSink) -> R`
/// - `async fn(T, ItemSink) -> R`
/// - `async fn(Call, T, ItemSink) -> R`
///
/// with `T` and `R` as in [`Handler`]. The stream ends when the future is ready. Its return value is the call's own
/// result, which most callers ignore; an `Err` ends the stream with that error.
///
/// # Cancel safety
///
/// As [`Handler`]. A stream has no timeout but its caller's own.
pub trait StreamHandler<Args>: Send + Sync + 'static {
    /// Answers one call.
    ///
    /// # Errors
    ///
    /// The future's error is the refusal to answer with.
    fn handle(
        &self,
        call: Call,
        items: ItemSink,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static;
}

impl<F, T, R> StreamHandler<Nothing<T>> for F
where
    F: Fn(ItemSink) -> T + Send + Sync + 'static,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        _: Call,
        items: ItemSink,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = self(items);
        async move { reply.write(&handled.await) }
    }
}

impl<F, A, T, R> StreamHandler<Payload<A, T>> for F
where
    F: Fn(A, ItemSink) -> T + Send + Sync + 'static,
    A: DeserializeOwned,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        call: Call,
        items: ItemSink,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = payload(&call).map(|payload| self(payload, items));
        async move { reply.write(&handled?.await) }
    }
}

impl<F, A, T, R> StreamHandler<ContextAndPayload<A, T>> for F
where
    F: Fn(Call, A, ItemSink) -> T + Send + Sync + 'static,
    A: DeserializeOwned,
    T: Future<Output = R> + Send + 'static,
    R: Serialize,
{
    fn handle(
        &self,
        call: Call,
        items: ItemSink,
        reply: Reply,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + 'static {
        let handled = payload(&call).map(|payload| self(call, payload, items));
        async move { reply.write(&handled?.await) }
    }
}

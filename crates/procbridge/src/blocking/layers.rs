//! Ready-made layers, see [`Router::layer`](crate::Router::layer).

use crate::blocking::next::Next;
use crate::limits::permits::Semaphore;
use crate::reply_error::ReplyError;
use crate::service::call::Call;
#[cfg(feature = "tracing")]
use crate::service::layers::{Timed, span};
use crate::service::layers::{mapped, permit};
use crate::service::reply::Reply;

/// Returns a layer that sets a concurrency limit: at most `calls` of the router's calls are in flight at a time.
/// Refuses a call beyond that with the code `overloaded`; with 0, it refuses every call.
///
/// ```
/// use procbridge::{Router, layers};
///
/// let router = Router::new().layer(layers::max_in_flight(8)).method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
/// ```
pub fn max_in_flight(
    calls: usize,
) -> impl Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> + Send + Sync + 'static {
    let permits = Semaphore::new(calls);
    move |_, next| {
        let _permit = permit(&permits)?;
        next.run()
    }
}

/// Returns a layer that answers errors of type `E` as `map` says: with a code, for example. It sees the errors that a
/// handler returned, or that became a [`ReplyError`] with `?`.
///
/// ```
/// use std::num::ParseIntError;
/// use procbridge::{Client, ReplyError, Router, Server, layers};
///
/// let router = Router::new()
///     .layer(layers::map_error(|error: &ParseIntError| ReplyError::new(error.to_string()).with_code("calc.digits")))
///     .method("parse", |text: String| text.parse::<i64>());
/// # let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
/// # let error = Client::connect(server.endpoint())?.request::<i64>("parse", "x").unwrap_err();
/// # assert_eq!(error.remote().unwrap().code(), Some("calc.digits"));
/// # Ok::<(), procbridge::Error>(())
/// ```
pub fn map_error<E: std::error::Error + 'static>(
    map: impl Fn(&E) -> ReplyError + Send + Sync + 'static,
) -> impl Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> + Send + Sync + 'static {
    move |_, next| next.run().map_err(|error| mapped(error, &map))
}

/// Returns a layer that reports each call to [tracing](https://docs.rs/tracing), at level `INFO`. The handler runs in a
/// span `procbridge.call` with the fields `method`, `peer` and `traceparent`. An event in the span has the fields
/// `outcome` and `elapsed_us`. The outcome is `ok`, the error's code, or `error` if it has none.
///
/// ```
/// use procbridge::{Router, layers};
///
/// let router = Router::new().layer(layers::trace()).method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
/// ```
#[cfg(feature = "tracing")]
pub fn trace() -> impl Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> + Send + Sync + 'static {
    |call, next| {
        let span = span(call);
        let _entered = span.enter();
        let timed = Timed::begin();
        timed.end(next.run())
    }
}

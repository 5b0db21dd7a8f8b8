//! Ready-made layers, see [`Router::layer`](crate::tokio::Router::layer).

use std::pin::Pin;
use std::sync::Arc;

use crate::limits::permits::Semaphore;
use crate::reply_error::ReplyError;
use crate::service::layers::{mapped, permit};
use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::next::Next;

/// The future that these layers return.
pub type Layered = Pin<Box<dyn Future<Output = Result<Reply, ReplyError>> + Send>>;

/// Returns a layer that sets a concurrency limit: at most `calls` of the router's calls are in flight at a time.
/// Refuses a call beyond that with the code `overloaded`; with 0, it refuses every call. A blocking handler that runs
/// past its deadline no longer counts as in flight.
///
/// ```
/// use procbridge::tokio::{Router, layers};
///
/// let router = Router::new().layer(layers::max_in_flight(8)).method("seven", || async { 7 });
/// ```
pub fn max_in_flight(calls: usize) -> impl Fn(Call, Next) -> Layered + Send + Sync + 'static {
    let permits = Semaphore::new(calls);
    move |_, next| {
        let permit = permit(&permits);
        Box::pin(async move {
            let _permit = permit?;
            next.run().await
        })
    }
}

/// Returns a layer that answers errors of type `E` as `map` says: with a code, for example. It sees the errors that a
/// handler returned, or that became a [`ReplyError`] with `?`.
///
/// ```
/// use std::num::ParseIntError;
/// use procbridge::ReplyError;
/// use procbridge::tokio::{Router, layers};
///
/// let router = Router::new()
///     .layer(layers::map_error(|error: &ParseIntError| ReplyError::new(error.to_string()).with_code("calc.digits")))
///     .method("parse", |text: String| async move { text.parse::<i64>() });
/// ```
pub fn map_error<E: std::error::Error + 'static>(
    map: impl Fn(&E) -> ReplyError + Send + Sync + 'static,
) -> impl Fn(Call, Next) -> Layered + Send + Sync + 'static {
    let map = Arc::new(map);
    move |_, next| {
        let map = map.clone();
        Box::pin(async move { next.run().await.map_err(|error| mapped(error, &*map)) })
    }
}

/// Returns a layer that reports each call to [tracing](https://docs.rs/tracing), at level `INFO`. The handler runs in a
/// span `procbridge.call` with the fields `method`, `peer` and `traceparent`. An event in the span has the fields
/// `outcome` and `elapsed_us`. The outcome is `ok`, the error's code, `error` if it has none, or `cancelled` if it was
/// dropped.
///
/// ```
/// use procbridge::tokio::{Router, layers};
///
/// let router = Router::new().layer(layers::trace()).method("seven", || async { 7 });
/// ```
#[cfg(feature = "tracing")]
pub fn trace() -> impl Fn(Call, Next) -> Layered + Send + Sync + 'static {
    use tracing::Instrument;

    use crate::service::layers::{Timed, span};

    |call, next| {
        let timed = Timed::begin();
        let handled = async move {
            // Moved in here, so a call that is dropped early drops it within the span.
            let timed = timed;
            timed.end(next.run().await)
        };
        Box::pin(handled.instrument(span(&call)))
    }
}

//! Layers that are ready to be used, see [`Router::layer`](crate::tokio::Router::layer).

use std::pin::Pin;

use crate::limits::permits::Semaphore;
use crate::reply_error::Refusal;
use crate::service::layers::permit;
use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::next::Next;

/// What these layers give.
pub type Layered = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// Lets at most `calls` of the router's calls be in flight at a time. One more is refused, code `overloaded`. A blocking
/// handler that goes on past its time is not in flight any more.
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
            let _place = permit?;
            next.run().await
        })
    }
}

/// Tells [tracing](https://docs.rs/tracing) of each call: a span `procbridge.call` with the fields `method`, `peer` and
/// `traceparent`, in which the handler runs, and in it an event with `outcome` (`ok`, the error's code, `error` if it has
/// none, or `cancelled` if it was dropped) and `elapsed_us`. Both are of the level `INFO`.
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
            // Moved in here: what ends the call early drops it within the span.
            let timed = timed;
            timed.end(next.run().await)
        };
        Box::pin(handled.instrument(span(&call)))
    }
}

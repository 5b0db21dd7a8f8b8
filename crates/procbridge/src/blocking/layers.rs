//! Ready-made layers, see [`Router::layer`](crate::Router::layer).

use crate::blocking::next::Next;
use crate::limits::permits::Semaphore;
use crate::reply_error::Refusal;
use crate::service::call::Call;
use crate::service::layers::permit;
#[cfg(feature = "tracing")]
use crate::service::layers::{Timed, span};
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
) -> impl Fn(&Call, Next<'_>) -> Result<Reply, Refusal> + Send + Sync + 'static {
    let permits = Semaphore::new(calls);
    move |_, next| {
        let _permit = permit(&permits)?;
        next.run()
    }
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
pub fn trace() -> impl Fn(&Call, Next<'_>) -> Result<Reply, Refusal> + Send + Sync + 'static {
    |call, next| {
        let span = span(call);
        let _entered = span.enter();
        let timed = Timed::begin();
        timed.end(next.run())
    }
}

//! Layers that are ready to be used, see [`Router::layer`](crate::Router::layer).

use crate::blocking::handler::Reply;
use crate::blocking::next::Next;
use crate::blocking::router::overloaded;
use crate::limits::permits::{Permit, Semaphore};
use crate::reply_error::Refusal;
use crate::service::call::Call;

/// Lets at most `calls` of the router's calls be in flight at a time. One more is refused, code `overloaded`; with 0, every
/// one is.
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
        let _place = permit(&permits)?;
        next.run()
    }
}

/// Tells [tracing](https://docs.rs/tracing) of each call: a span `procbridge.call` with the fields `method`, `peer` and
/// `traceparent`, in which the handler runs, and in it an event with `outcome` (`ok`, the error's code, or `error` if it
/// has none) and `elapsed_us`. Both are of the level `INFO`.
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

/// A place of [`max_in_flight`].
pub(crate) fn permit(permits: &Semaphore) -> Result<Permit, Refusal> {
    permits.try_acquire(1).ok_or_else(|| overloaded("calls in flight", permits.limit(), "max_in_flight"))
}

/// The span of a call. What a caller chose is escaped and cut.
#[cfg(feature = "tracing")]
pub(crate) fn span(call: &Call) -> tracing::Span {
    let method = call.method().map(crate::telemetry::log::escaped).map(tracing::field::display);
    let (peer, traceparent) = (tracing::field::display(call.peer()), call.traceparent());
    tracing::info_span!(target: "procbridge", "procbridge.call", method, peer, traceparent)
}

/// Tells how a call ended: also if it ended before its handler did.
#[cfg(feature = "tracing")]
pub(crate) struct Timed {
    began: std::time::Instant,
    is_told: bool,
}

#[cfg(feature = "tracing")]
impl Timed {
    pub(crate) fn begin() -> Self {
        Self { began: std::time::Instant::now(), is_told: false }
    }

    pub(crate) fn end(mut self, handled: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
        self.tell(match &handled {
            Ok(_) => "ok",
            Err(refusal) => refusal.code().unwrap_or("error"),
        });
        handled
    }

    fn tell(&mut self, outcome: &str) {
        self.is_told = true;
        let elapsed_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(target: "procbridge", outcome, elapsed_us, "call");
    }
}

#[cfg(feature = "tracing")]
impl Drop for Timed {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(procbridge_proto::code::CANCELLED);
        }
    }
}

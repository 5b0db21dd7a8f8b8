//! The parts of the ready-made layers that both faces share.

use crate::limits::permits::{Permit, Semaphore};
use crate::reply_error::{ReplyError, overloaded};
#[cfg(feature = "tracing")]
use crate::service::call::Call;
#[cfg(feature = "tracing")]
use crate::service::reply::Reply;

/// Returns the error that `map` makes of the `E` behind `error`, or else `error`.
pub(crate) fn mapped<E: std::error::Error + 'static>(
    error: ReplyError,
    map: impl Fn(&E) -> ReplyError,
) -> ReplyError {
    match error.downcast_ref() {
        Some(source) => map(source),
        None => error,
    }
}

/// Returns a permit of `max_in_flight`.
pub(crate) fn permit(permits: &Semaphore) -> Result<Permit, ReplyError> {
    permits.try_acquire(1).ok_or_else(|| overloaded("calls in flight", permits.limit(), "max_in_flight"))
}

/// Returns the span of a call. Text that the caller chose is escaped and cut.
#[cfg(feature = "tracing")]
pub(crate) fn span(call: &Call) -> tracing::Span {
    let method = call.method().map(crate::telemetry::log::escaped).map(tracing::field::display);
    let (peer, traceparent) = (tracing::field::display(call.peer()), call.traceparent());
    tracing::info_span!(target: "procbridge", "procbridge.call", method, peer, traceparent)
}

/// Reports how a call ended, even if it ended before its handler did.
#[cfg(feature = "tracing")]
pub(crate) struct Timed {
    began: std::time::Instant,
    is_reported: bool,
}

#[cfg(feature = "tracing")]
impl Timed {
    pub(crate) fn begin() -> Self {
        Self { began: std::time::Instant::now(), is_reported: false }
    }

    pub(crate) fn end(mut self, handled: Result<Reply, ReplyError>) -> Result<Reply, ReplyError> {
        self.report(match &handled {
            Ok(_) => "ok",
            Err(refusal) => refusal.code().unwrap_or("error"),
        });
        handled
    }

    fn report(&mut self, outcome: &str) {
        self.is_reported = true;
        let elapsed_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(target: "procbridge", outcome, elapsed_us, "call");
    }
}

#[cfg(feature = "tracing")]
impl Drop for Timed {
    fn drop(&mut self) {
        if !self.is_reported {
            self.report(procbridge_proto::code::CANCELLED);
        }
    }
}

//! A call whose handler runs.
//!
//! An async handler is a future, which is dropped at the call's deadline. A blocking handler cannot be interrupted, but
//! its caller can be answered without it. Then it is leaked, and counted until it ends.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ::tokio::task::{AbortHandle, spawn_blocking};
use procbridge_proto::Packet;

use crate::config::server::ServerConfig;
use crate::limits::permits::Permit;
use crate::reply_error::ReplyError;
use crate::reply_error::cancelled;
use crate::service::call::Call;
use crate::service::dispatch::{finish, guarded};
use crate::service::reply::Reply;
use crate::telemetry::stats::CallTimer;
use crate::telemetry::trace_context;

/// The future of an async handler.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Reply, ReplyError>> + Send>>;

/// A handler that runs. Its result is the handler's, whatever the handler does; dropping it ends the call.
pub(super) struct HandlerTask {
    call: Call,
    work: GuardedFuture,
    guard: Guarding,
}

/// The guard of a call, owned or shared.
pub(super) enum Guarding {
    /// The whole call ends with its future.
    Alone(CallGuard),
    /// A blocking handler may outlive its call.
    Shared(Arc<CallGuard>),
}

/// The permits and timer of a call, until all of it has ended, a leaked blocking handler included.
#[derive(Debug)]
pub(super) struct CallGuard {
    pub(super) _slot: Option<Permit>,
    /// `None` if the call is not counted.
    pub(super) measured: Option<CallTimer>,
}

/// A future whose panics become refusals: at its beginning, at its end and in between.
pub(super) struct GuardedFuture {
    /// `None` once it has ended.
    work: Option<Work>,
}

impl HandlerTask {
    pub(super) fn new(call: Call, guard: Guarding, work: GuardedFuture) -> Self {
        Self { call, work, guard }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Turns the handler's result into the packet that answers, or the refusal. Returns also when a counted call ended,
    /// if it ended here.
    pub(super) fn finish(
        &mut self,
        config: &ServerConfig,
        handled: Result<Reply, ReplyError>,
    ) -> (Result<Packet, ReplyError>, Option<Instant>) {
        let finished = handled.and_then(|reply| finish(config, reply));
        let ended = match &mut self.guard {
            Guarding::Alone(guard) => guard.measured.take().map(|measured| measured.end(finished.is_ok())),
            Guarding::Shared(guard) => {
                if let Some(measured) = &guard.measured {
                    measured.settle(finished.is_ok());
                }
                None
            }
        };
        (finished, ended)
    }
}

impl Future for HandlerTask {
    type Output = Result<Reply, ReplyError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { call, work, .. } = &mut *self;
        trace_context::within(call.trace(), || Pin::new(work).poll(context))
    }
}

impl Drop for HandlerTask {
    fn drop(&mut self) {
        if self.work.work.is_some() {
            self.call.state().cancel();
        }
    }
}

impl GuardedFuture {
    pub(super) fn begin(begin: impl FnOnce() -> Work) -> Result<Self, ReplyError> {
        guarded(|| Ok(Self { work: Some(begin()) }))
    }

    /// Drops the rest of a handler, whose own values may panic then.
    fn end(&mut self) {
        let work = self.work.take();
        let _ = guarded(|| {
            drop(work);
            Ok(())
        });
    }
}

impl Future for GuardedFuture {
    type Output = Result<Reply, ReplyError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let handled = match guarded(|| Ok(work.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(handled)) => handled,
            Err(panicked) => Err(panicked),
        };
        self.end();
        Poll::Ready(handled)
    }
}

impl Drop for GuardedFuture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Begins a blocking handler on a thread for blocking work. The guard is dropped when the handler has ended there.
pub(super) fn on_a_thread(
    call: Call,
    guard: Arc<CallGuard>,
    leaked: Arc<AtomicUsize>,
    handle: impl FnOnce(&Call) -> Result<Reply, ReplyError> + Send + 'static,
) -> Work {
    let leak = Leak { leaked, phase: Arc::new(AtomicU8::new(QUEUED)) };
    let at_work = AtWork { leak: leak.clone(), _guard: guard };
    let handler = spawn_blocking(move || {
        // Its caller may have given up while it waited for a thread.
        if at_work.begins() && !call.is_cancelled() {
            trace_context::within(call.trace(), || handle(&call))
        } else {
            Err(cancelled())
        }
    });
    let waited_for = WaitedFor { leak, handler: handler.abort_handle() };
    Box::pin(async move {
        let _waited_for = waited_for;
        // It fails only when the runtime ends.
        handler.await.unwrap_or_else(|_| Err(cancelled()))
    })
}

/// Counts a blocking handler as leaked, from when its caller has given up until it ends.
#[derive(Clone)]
struct Leak {
    leaked: Arc<AtomicUsize>,
    phase: Arc<AtomicU8>,
}

/// It waits for a thread.
const QUEUED: u8 = 0;
const AT_WORK: u8 = 1;
/// It runs without a caller.
const LEAKED: u8 = 2;
/// It has ended, or will never begin.
const OVER: u8 = 3;

/// Held by the handler's thread until the handler has ended, or will never begin.
struct AtWork {
    leak: Leak,
    _guard: Arc<CallGuard>,
}

/// Held by the call until it is answered.
struct WaitedFor {
    leak: Leak,
    handler: AbortHandle,
}

impl Leak {
    /// Moves from one phase to the next. Returns false if the phase is another one.
    fn goes_on(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl AtWork {
    /// Whether a caller still waits when the handler begins.
    fn begins(&self) -> bool {
        self.leak.goes_on(QUEUED, AT_WORK)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let Leak { leaked, phase } = &self.leak;
        if phase.swap(OVER, Ordering::AcqRel) == LEAKED {
            leaked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        let Self { leak, handler } = self;
        if leak.goes_on(QUEUED, OVER) {
            // It never begins.
            handler.abort();
        } else if leak.phase.load(Ordering::Acquire) == AT_WORK {
            // Count before the phase changes, or the handler's end uncounts itself first.
            leak.leaked.fetch_add(1, Ordering::Relaxed);
            if !leak.goes_on(AT_WORK, LEAKED) {
                leak.leaked.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for HandlerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerTask").field("call", &self.call).finish_non_exhaustive()
    }
}

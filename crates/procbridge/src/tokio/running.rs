//! A call that is with its handler.
//!
//! An async handler is a future, which is dropped when its time is over. A blocking handler cannot be interrupted, but
//! its caller can be answered without it: then it works for nobody, and is counted until it ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::tokio::task::{AbortHandle, spawn_blocking};

use crate::budget::Share;
use crate::call::Call;
use crate::handler::Reply;
use crate::refusal::Refusal;
use crate::router::{cancelled, guarded, panicked};

/// What an async handler gives.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// A handler at work. It gives the handler's result, whatever the handler does; dropping it ends the call.
pub(super) struct Running {
    call: Call,
    /// Absent once it has ended.
    work: Option<Work>,
    _slot: Option<Share>,
}

impl Running {
    /// Begins an async handler.
    pub(super) fn task(call: &Call, slot: Share, begin: impl FnOnce() -> Work) -> Result<Self, Refusal> {
        let work = guarded(|| Ok(begin()))?;
        Ok(Self { call: call.clone(), work: Some(work), _slot: Some(slot) })
    }

    /// Begins a blocking handler on a thread for such work.
    pub(super) fn thread(
        call: &Call,
        slot: Share,
        leaked: &Arc<AtomicUsize>,
        handle: impl FnOnce(&Call) -> Result<Reply, Refusal> + Send + 'static,
    ) -> Result<Self, Refusal> {
        let leak = Leak { leaked: leaked.clone(), settled: Arc::default() };
        let at_work = AtWork { leak: leak.clone(), _slot: slot };
        let its_call = call.clone();
        let handler = move || {
            let _at_work = at_work;
            // It may have waited for a thread until nobody waited for it.
            if its_call.is_cancelled() { Err(cancelled()) } else { guarded(|| handle(&its_call)) }
        };
        let handler = guarded(|| Ok(spawn_blocking(handler)))?;
        let waited_for = WaitedFor { leak, handler: handler.abort_handle() };
        let work = async move {
            let _waited_for = waited_for;
            // It fails only when the runtime ends.
            handler.await.unwrap_or_else(|_| Err(cancelled()))
        };
        Ok(Self { call: call.clone(), work: Some(Box::pin(work)), _slot: None })
    }
}

impl Future for Running {
    type Output = Result<Reply, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let handled = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(handled)) => handled,
            Err(_) => Err(panicked()),
        };
        end(self.work.take());
        Poll::Ready(handled)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.call.cancel();
            end(Some(work));
        }
    }
}

/// Drops what is left of a handler, whose own values may panic at that.
fn end(work: Option<Work>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
}

/// Counts a blocking handler as leaked from when nobody waits for it until it ends.
#[derive(Clone)]
struct Leak {
    leaked: Arc<AtomicUsize>,
    /// Set by whichever of the two comes first.
    settled: Arc<AtomicBool>,
}

/// Held by the handler's thread until the handler has ended, or will never begin.
struct AtWork {
    leak: Leak,
    _slot: Share,
}

/// Held by the call until it is answered.
struct WaitedFor {
    leak: Leak,
    handler: AbortHandle,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let Leak { leaked, settled } = &self.leak;
        if settled.swap(true, Ordering::AcqRel) {
            leaked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        let Leak { leaked, settled } = &self.leak;
        if settled.load(Ordering::Acquire) {
            return;
        }
        // Counted first: the handler's end must find it counted.
        leaked.fetch_add(1, Ordering::Relaxed);
        if settled.swap(true, Ordering::AcqRel) {
            leaked.fetch_sub(1, Ordering::Relaxed);
        }
        // One that has not begun never will.
        self.handler.abort();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("call", &self.call).finish_non_exhaustive()
    }
}

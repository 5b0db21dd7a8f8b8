//! The clock, and which task checks a call's deadline. The task that drives the session does so for all its calls at
//! once, with the one timer that it has anyway. That task must run while the caller waits. So it must be in the
//! caller's runtime, and no handler may run in it.

use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::runtime::Handle;
use ::tokio::task::coop;
use ::tokio::time::{Sleep, sleep_until};

use crate::classic::client::CallTimeout;
use crate::session::Session;

/// Returns the current time of the runtime's timers: a test may pause or set their clock. All times that are compared
/// with those timers come from here.
pub(super) fn now() -> Instant {
    ::tokio::time::Instant::now().into_std()
}

/// Becomes ready at `deadline`, for which `timer` may be set already. A timer that fires counts only if the clock
/// agrees: its runtime may have seen a later time. The wait uses none of the task's cooperative budget, so work that
/// exhausts the budget does not delay the deadline.
pub(super) fn poll_until(
    mut timer: Pin<&mut Sleep>,
    deadline: Instant,
    context: &mut Context<'_>,
) -> Poll<()> {
    if timer.deadline().into_std() != deadline {
        timer.as_mut().reset(deadline.into());
    }
    let mut ahead = Duration::from_secs(1);
    loop {
        ready!(pin!(coop::unconstrained(timer.as_mut())).poll(context));
        let now = now();
        if now >= deadline {
            return Poll::Ready(());
        }
        // Set the timer late, or it fires again and again at once. Something else usually polls it meanwhile.
        let Some(later) = now.checked_add(ahead) else { return Poll::Ready(()) };
        timer.as_mut().reset(later.into());
        ahead = ahead.saturating_mul(2);
    }
}

/// Waits until `deadline`.
pub(super) async fn wait_until(deadline: Instant) {
    let mut timer = pin!(sleep_until(deadline.into()));
    poll_fn(|context| poll_until(timer.as_mut(), deadline, context)).await;
}

/// Returns the timeout of a call that begins now.
pub(super) fn time(limit: Option<Duration>) -> CallTimeout {
    CallTimeout::since(now(), limit)
}

/// Notes that the task that drives `session` is in this runtime, and times out the calls on it.
pub(super) fn watch(session: &Session) {
    session.clock.store(here(), Ordering::Relaxed);
}

/// Whether such a task is in this runtime.
pub(super) fn is_watched(session: &Session) -> bool {
    let clock = session.clock.load(Ordering::Relaxed);
    clock != 0 && clock == here()
}

/// Returns the current runtime's number; 0 outside a runtime.
fn here() -> u64 {
    Handle::try_current().map_or(0, |handle| {
        let mut number = IdHasher(0);
        handle.id().hash(&mut number);
        number.finish()
    })
}

/// A hasher that returns an id as it is.
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Sets the timers of a runtime that has seen a later time: they fire at once.
    #[::tokio::test(start_paused = true)]
    async fn a_timer_alone_is_not_believed() {
        let deadline = now() + Duration::from_secs(10);
        let mut timer = pin!(sleep_until(now().into()));
        ::tokio::time::advance(Duration::from_millis(5)).await;
        let mut context = Context::from_waker(Waker::noop());
        assert!(timer.as_mut().poll(&mut context).is_ready());
        assert!(poll_until(timer.as_mut(), deadline, &mut context).is_pending());
        ::tokio::time::advance(Duration::from_secs(11)).await;
        assert!(poll_until(timer.as_mut(), deadline, &mut context).is_ready());
    }
}

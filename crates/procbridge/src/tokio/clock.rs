//! What time it is, and who looks at the clock for a call: the task that drives its session does for all of them at once,
//! with the one timer that it has anyway. It must be sure to run while the call is waited for, so it must be in the caller's
//! runtime, and no handler must run in it.

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

/// What time it is for the runtime's timers: a test may stop their clock, or set it. Whatever is compared with what they wait
/// for is taken from here.
pub(super) fn now() -> Instant {
    ::tokio::time::Instant::now().into_std()
}

/// Ready at `deadline`, which `timer` may wait for already. A timer that fires is believed only if the clock agrees: its
/// runtime may have seen a later time. Work that is never done with its share of the thread does not take the timer's.
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
        // Late, which is better than at once again and again. It is looked at for something else meanwhile, as a rule.
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

/// The time of a call that begins now.
pub(super) fn time(limit: Option<Duration>) -> CallTimeout {
    CallTimeout::since(now(), limit)
}

/// The task that drives `link` is in this runtime, and ends the calls on it whose time is over.
pub(super) fn watch(session: &Session) {
    session.clock.store(here(), Ordering::Relaxed);
}

/// Whether such a task is in this runtime.
pub(super) fn is_watched(session: &Session) -> bool {
    let clock = session.clock.load(Ordering::Relaxed);
    clock != 0 && clock == here()
}

/// The runtime in which this runs, as a number. 0 if there is none.
fn here() -> u64 {
    Handle::try_current().map_or(0, |handle| {
        let mut number = IdHasher(0);
        handle.id().hash(&mut number);
        number.finish()
    })
}

/// An id as the number that it is.
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

    /// A runtime whose timers have seen a later time fires at once.
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

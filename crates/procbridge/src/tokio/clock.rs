//! What time it is, and who looks at the clock for a call: the task that drives its session does for all of them at once,
//! with the one timer that it has anyway. It must be sure to run while the call is waited for, so it must be in the caller's
//! runtime, and no handler must run in it.

use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::tokio::runtime::Handle;

use crate::outgoing::CallTime;
use crate::session::Link;

/// What time it is for the runtime's timers: a test may stop their clock, or set it. Whatever is compared with what they wait
/// for is taken from here.
pub(super) fn now() -> Instant {
    ::tokio::time::Instant::now().into_std()
}

/// The time of a call that begins now.
pub(super) fn time(limit: Option<Duration>) -> CallTime {
    CallTime::since(now(), limit)
}

/// The task that drives `link` is in this runtime, and ends the calls on it whose time is over.
pub(super) fn watch(link: &Link) {
    link.clock.store(here(), Ordering::Relaxed);
}

/// Whether such a task is in this runtime.
pub(super) fn is_watched(link: &Link) -> bool {
    let clock = link.clock.load(Ordering::Relaxed);
    clock != 0 && clock == here()
}

/// The runtime in which this runs, as a number. 0 if there is none.
fn here() -> u64 {
    Handle::try_current().map_or(0, |handle| {
        let mut number = Number(0);
        handle.id().hash(&mut number);
        number.finish()
    })
}

/// An id as the number that it is.
struct Number(u64);

impl Hasher for Number {
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

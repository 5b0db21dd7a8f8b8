//! How long the beginnings of a route's handlers block a thread.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How quick the beginnings of a route's handlers have been.
#[derive(Debug, Default)]
pub(super) struct HandlerSpeed {
    /// How many quick beginnings must follow before the next one runs on the session's task. 0: it does.
    slow: AtomicU32,
}

impl HandlerSpeed {
    /// Whether its handlers get tasks of their own.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) > 0
    }

    /// Notes how long a beginning took on the session's task.
    pub(super) fn ran_inline(&self, lasted: Duration) {
        if lasted >= SLOW {
            self.slow.store(STEADY, Ordering::Relaxed);
        }
    }

    /// Notes how long a beginning took on a task of its own.
    pub(super) fn ran_spawned(&self, lasted: Duration) {
        if lasted >= SLOW {
            self.slow.store(STEADY, Ordering::Relaxed);
        } else {
            let less = |slow: u32| slow.checked_sub(1);
            let _ = self.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

/// The time from which a beginning is slow. It is well over what a quick one takes on a busy machine.
const SLOW: Duration = Duration::from_micros(500);
/// How many quick beginnings in a row show that a route is quick again.
const STEADY: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_apart_after_one_slow_beginning_until_many_were_quick() {
        let speed = HandlerSpeed::default();
        let is_apart = || speed.slow.load(Ordering::Relaxed) > 0;
        speed.ran_inline(SLOW / 2);
        assert!(!is_apart());
        speed.ran_inline(SLOW);
        for _ in 1..STEADY {
            speed.ran_spawned(SLOW / 2);
            assert!(is_apart());
        }
        speed.ran_spawned(SLOW);
        for _ in 0..STEADY {
            assert!(is_apart());
            speed.ran_spawned(SLOW / 2);
        }
        assert!(!is_apart());
        speed.ran_spawned(SLOW / 2);
        assert!(!is_apart());
    }
}

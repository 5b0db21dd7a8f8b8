//! Looking again and again for a moment before waiting in the system, where that pays: a thread that sleeps is woken late,
//! one that looks is not.
//!
//! Whoever looks holds a processor. So it is given up where it brings nothing: after each look in vain more waits pass
//! without one, up to a thousand, and a look that succeeds begins anew.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::config::cores::has_several_cores;

/// How one session looks before it waits.
#[derive(Debug)]
pub(crate) struct Spin {
    /// How long to look; zero to wait at once.
    limit: Duration,
    /// Looks in vain since the last that was not.
    misses: AtomicU32,
    /// Waits that pass without a look.
    skip: AtomicU32,
}

impl Spin {
    /// Looks for up to `limit` before each wait, if the process has more than one processor.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let limit = limit.filter(|_| has_several_cores()).unwrap_or_default().min(MAX_SPIN);
        Self { limit, misses: AtomicU32::new(0), skip: AtomicU32::new(0) }
    }

    /// What `look` finds, if it finds anything before the time is over.
    pub(crate) fn find<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.limit.is_zero() {
            return None;
        }
        self.find_by(Instant::now, look)
    }

    fn find_by<T>(
        &self,
        mut clock: impl FnMut() -> Instant,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            return None;
        }
        let began = clock();
        let mut last = began;
        let missed = loop {
            if let Some(found) = look() {
                self.misses.store(0, Ordering::Relaxed);
                return Some(found);
            }
            (0..SPINS_PER_LOOK).for_each(|_| hint::spin_loop());
            let now = clock();
            // Others want the processor: it was taken away from this thread.
            if now.saturating_duration_since(last) >= PREEMPTED_AFTER {
                break MAX_PREEMPTED;
            }
            if now.saturating_duration_since(began) >= self.limit {
                break 1;
            }
            last = now;
        };
        let misses = (self.misses.load(Ordering::Relaxed) + missed).min(MAX_BACKOFF);
        self.misses.store(misses, Ordering::Relaxed);
        self.skip.store((1 << misses) - 1, Ordering::Relaxed);
        None
    }
}

/// However long is asked for.
const MAX_SPIN: Duration = Duration::from_micros(50);
/// Between two looks.
const SPINS_PER_LOOK: u32 = 4;
/// Time between two looks that shows that the thread did not run.
const PREEMPTED_AFTER: Duration = Duration::from_micros(100);
/// Such a look counts as so many in vain.
const MAX_PREEMPTED: u32 = 4;
/// Looks in vain that count: after them one wait of 1,024 has a look.
const MAX_BACKOFF: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits with a clock that moves by `step` with each look; tells how many looks there were.
    fn looks(spin: &Spin, waits: u32, step: Duration, found: bool) -> u32 {
        let (mut now, mut count) = (Instant::now(), 0);
        for _ in 0..waits {
            let clock = || {
                now += step;
                now
            };
            let look = || {
                count += 1;
                found.then_some(())
            };
            assert_eq!(spin.find_by(clock, look).is_some(), found && count > 0);
        }
        count
    }

    fn spin() -> Spin {
        Spin { limit: Duration::from_micros(20), misses: AtomicU32::new(0), skip: AtomicU32::new(0) }
    }

    #[test]
    fn looks_in_vain_become_rare() {
        let spin = spin();
        let micro = Duration::from_micros(1);
        assert_eq!(looks(&spin, 1, micro, false), 20);
        // One wait in 2, 4, 8 .. 1,024 has its twenty looks.
        assert!(looks(&spin, 2048, micro, false) <= 11 * 20);
        assert!(looks(&spin, 102_400, micro, false) <= 101 * 20);
    }

    #[test]
    fn a_look_that_succeeds_begins_anew() {
        let spin = spin();
        let micro = Duration::from_micros(1);
        looks(&spin, 100_000, micro, false);
        spin.skip.store(0, Ordering::Relaxed);
        assert_eq!(looks(&spin, 1000, micro, true), 1000);
        assert_eq!(looks(&spin, 1, micro, false), 20);
        assert_eq!(spin.skip.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_thread_that_is_not_let_run_gives_up_sooner() {
        let spin = spin();
        assert_eq!(looks(&spin, 1, PREEMPTED_AFTER, false), 1);
        assert_eq!(spin.skip.load(Ordering::Relaxed), 15);
    }

    #[test]
    fn it_is_off_unless_asked_for_and_bounded() {
        let off = Spin::new(None);
        assert_eq!(off.find(|| -> Option<()> { unreachable!("it does not look") }), None);
        assert!(Spin::new(Some(Duration::MAX)).limit <= MAX_SPIN);
    }
}

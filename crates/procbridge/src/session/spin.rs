//! Spinning for a moment before a thread waits in the system: a sleeping thread is woken late, a spinning one is not.
//!
//! Spinning burns a core, so it backs off exponentially after misses: after each, more waits pass without spinning, up
//! to a thousand. A hit resets the backoff.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::config::cores::has_several_cores;

/// How one session spins before it waits.
#[derive(Debug)]
pub(crate) struct Spin {
    /// How long to spin; zero to wait at once.
    limit: Duration,
    /// Misses since the last hit.
    misses: AtomicU32,
    /// Waits that still pass without spinning.
    skip: AtomicU32,
}

impl Spin {
    /// Spins for up to `limit` before each wait, if the process has more than one core.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let limit = limit.filter(|_| has_several_cores()).unwrap_or_default().min(MAX_SPIN);
        Self { limit, misses: AtomicU32::new(0), skip: AtomicU32::new(0) }
    }

    /// Calls `look` until it finds something or the time is over.
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
            // The system preempted this thread: other threads want the core.
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

/// Upper bound of the configured time.
const MAX_SPIN: Duration = Duration::from_micros(50);
/// Spin-loop hints between two looks.
const SPINS_PER_LOOK: u32 = 4;
/// Time between two looks that shows that the thread was preempted.
const PREEMPTED_AFTER: Duration = Duration::from_micros(100);
/// Misses that a preemption counts as.
const MAX_PREEMPTED: u32 = 4;
/// Misses that count: after them one wait of 1,024 spins.
const MAX_BACKOFF: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits with a clock that moves by `step` with each look; returns how many looks there were.
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
    fn spinning_without_success_becomes_rare() {
        let spin = spin();
        let micro = Duration::from_micros(1);
        assert_eq!(looks(&spin, 1, micro, false), 20);
        // One wait in 2, 4, 8 .. 1,024 has its twenty looks.
        assert!(looks(&spin, 2048, micro, false) <= 11 * 20);
        assert!(looks(&spin, 102_400, micro, false) <= 101 * 20);
    }

    #[test]
    fn a_hit_resets_the_backoff() {
        let spin = spin();
        let micro = Duration::from_micros(1);
        looks(&spin, 100_000, micro, false);
        spin.skip.store(0, Ordering::Relaxed);
        assert_eq!(looks(&spin, 1000, micro, true), 1000);
        assert_eq!(looks(&spin, 1, micro, false), 20);
        assert_eq!(spin.skip.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_preempted_thread_stops_spinning_sooner() {
        let spin = spin();
        assert_eq!(looks(&spin, 1, PREEMPTED_AFTER, false), 1);
        assert_eq!(spin.skip.load(Ordering::Relaxed), 15);
    }

    #[test]
    fn it_is_off_unless_asked_for_and_bounded() {
        let off = Spin::new(None);
        assert_eq!(off.find(|| -> Option<()> { unreachable!("it does not spin") }), None);
        assert!(Spin::new(Some(Duration::MAX)).limit <= MAX_SPIN);
    }
}

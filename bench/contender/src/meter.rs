//! The counts that are taken while calls go on: how long each took, how many there were.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The latencies of one worker, in nanoseconds with three digits.
pub(crate) struct Meter {
    pub(crate) latencies: Histogram<u64>,
    pub(crate) calls: u64,
    /// When the last call ended: the next one begins there, so that each call costs one look at the clock.
    last: Instant,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let latencies =
            Histogram::new_with_max(60_000_000_000, 3).unwrap_or_else(|_| unreachable!("fixed bounds"));
        Self { latencies, calls: 0, last: Instant::now() }
    }

    /// Takes this moment as the beginning of the first call.
    pub(crate) fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// Counts work that was timed by itself. Returns the time now.
    pub(crate) fn lasted(&mut self, time: Duration) -> Instant {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(nanoseconds);
        self.calls += 1;
        Instant::now()
    }

    /// Counts a call, or a batch of them, that has ended. Returns when.
    pub(crate) fn ended(&mut self, calls: u64) -> Instant {
        let now = Instant::now();
        let nanoseconds = u64::try_from((now - self.last).as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(nanoseconds);
        self.calls += calls;
        self.last = now;
        now
    }
}

/// Latencies that tasks of one thread share, so that 64 of them use one table and not 64.
pub(crate) struct SharedMeter(Mutex<Meter>);

impl SharedMeter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Meter::new()))
    }

    pub(crate) fn ended(&self, begun: Instant) -> Instant {
        let mut meter = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        meter.last = begun;
        meter.ended(1)
    }

    pub(crate) fn take(&self) -> Meter {
        let mut meter = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut meter, Meter::new())
    }
}

/// When to stop: after a time, or after so many calls of all workers together.
pub(crate) struct End {
    at: Option<Instant>,
    left: AtomicU64,
}

impl End {
    pub(crate) fn new(time: Duration, calls: Option<u64>) -> Self {
        let at = calls.is_none().then(|| Instant::now() + time);
        Self { at, left: AtomicU64::new(calls.unwrap_or(0)) }
    }

    /// Whether one more call may begin, at `now`.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        match self.at {
            Some(end) => now < end,
            None => self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_calls_is_kept_exactly() {
        let end = End::new(Duration::ZERO, Some(3));
        let allowed = (0..10).filter(|_| end.allows(Instant::now())).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn a_time_that_is_over_allows_nothing() {
        assert!(!End::new(Duration::ZERO, None).allows(Instant::now()));
        assert!(End::new(Duration::from_secs(60), None).allows(Instant::now()));
    }
}

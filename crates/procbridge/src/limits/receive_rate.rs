//! The receive rate of a request: how slowly it may arrive. Both faces pass the time in.

use std::time::{Duration, Instant};

/// The receive rate of one request.
#[derive(Debug)]
pub(crate) struct ReceiveRate {
    deadline: Instant,
    /// Bytes still to come before the deadline moves on; `None` before the header is complete.
    due: Option<usize>,
    /// Bytes due in each window.
    rate: usize,
}

impl ReceiveRate {
    /// Returns the rate of a request that begins `now`. `min_body_rate` is in bytes a second.
    pub(crate) fn new(now: Instant, header_timeout: Duration, min_body_rate: u32) -> Self {
        // A timeout beyond the clock's range is replaced by one that no program lives to see.
        let deadline = now.checked_add(header_timeout).unwrap_or(now + NO_DEADLINE);
        let rate = usize::try_from(u64::from(min_body_rate) * WINDOW.as_secs()).unwrap_or(usize::MAX);
        Self { deadline, due: None, rate }
    }

    /// Returns when the request is too slow unless more of it arrives.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Notes `bytes` that arrived; `has_header` tells whether the header is complete.
    pub(crate) fn arrived(&mut self, now: Instant, bytes: usize, has_header: bool) {
        match self.due {
            None if has_header => {
                // Half of the first window is free.
                self.due = Some(self.rate / 2);
                self.deadline = now + WINDOW;
            }
            Some(due) if bytes >= due => {
                self.due = Some(self.rate);
                self.deadline = now + WINDOW;
            }
            Some(due) => self.due = Some(due - bytes),
            None => {}
        }
    }
}

/// Thirty years.
const NO_DEADLINE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
const WINDOW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_timeout_holds_whatever_arrives() {
        let start = Instant::now();
        let mut rate = ReceiveRate::new(start, Duration::from_secs(10), 1024);
        rate.arrived(start + Duration::from_secs(9), 10, false);
        assert_eq!(rate.deadline(), start + Duration::from_secs(10));
    }

    #[test]
    fn a_timeout_may_be_as_long_as_a_duration() {
        let start = Instant::now();
        assert!(
            ReceiveRate::new(start, Duration::MAX, u32::MAX).deadline()
                > start + Duration::from_secs(1_000_000)
        );
    }

    #[test]
    fn a_body_must_keep_up_one_kibibyte_a_second() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut rate = ReceiveRate::new(start, Duration::from_secs(10), 1024);
        rate.arrived(start, 11, true);
        assert_eq!(rate.deadline(), second(10));
        rate.arrived(second(5), 5 * 1024 - 1, true);
        assert_eq!(rate.deadline(), second(10));
        rate.arrived(second(6), 1, true);
        assert_eq!(rate.deadline(), second(16));
        for n in 7..16 {
            rate.arrived(second(n), 1024, true);
        }
        assert_eq!(rate.deadline(), second(16));
        rate.arrived(second(16), 1024, true);
        assert_eq!(rate.deadline(), second(26));
    }
}

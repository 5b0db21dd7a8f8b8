//! How much a peer can make a server inflate: far more than it sends, but only for a short time (PB-CMP-12).
//!
//! Inflating costs the receiver time in proportion to the text, and the sender next to nothing. So text beyond a usual
//! ratio is counted: each session, and all together, may inflate some at once, and more as time passes.

use std::time::{Duration, Instant};

/// Bytes that may be inflated beyond the usual ratio.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// The bytes taken, and when.
    taken: Option<(u64, Instant)>,
}

impl Allowance {
    /// Returns the bytes to count for a text of `size` bytes that arrived compressed to `arrived` bytes.
    pub(crate) fn excess(size: usize, arrived: usize) -> u64 {
        size.saturating_sub(arrived.saturating_mul(FREE_RATIO)) as u64
    }

    /// Takes `bytes` at `now`, if at most `most` are taken then; `most` bytes come back in [`REFILL_TIME`]. Returns
    /// whether they were taken; if not, nothing changes.
    pub(crate) fn take(&mut self, bytes: u64, most: u64, now: Instant) -> bool {
        let taken = self.taken.map_or(0, |(taken, at)| {
            let passed = now.saturating_duration_since(at).as_micros();
            let back = passed.saturating_mul(most.into()) / REFILL_TIME.as_micros();
            taken.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
        });
        // One text is always allowed, however large it may be.
        let is_allowed = taken == 0 || taken.saturating_add(bytes) <= most;
        if is_allowed {
            self.taken = Some((taken.saturating_add(bytes), now));
        }
        is_allowed
    }
}

/// Ratio up to which inflated text is not counted: few messages of programs compress further.
const FREE_RATIO: usize = 32;
/// Time in which a used-up allowance is whole again.
const REFILL_TIME: Duration = Duration::from_secs(4);
/// Bytes that one session may inflate beyond the usual ratio: four of the largest bodies at once, then one each second.
pub(crate) const SESSION_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes that all sessions together may inflate beyond it. On one core this takes a fifth of the time.
pub(crate) const SERVER_BYTES: u64 = 4 * SESSION_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_ratio_is_not_counted() {
        assert_eq!(Allowance::excess(1_000_000, 100_000), 0);
        assert_eq!(Allowance::excess(15 << 20, 550), (15 << 20) - 550 * 32);
    }

    #[test]
    fn what_is_taken_comes_back_with_time() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..4 {
            assert!(allowance.take(16 << 20, SESSION_BYTES, at(0)));
        }
        assert!(!allowance.take(16 << 20, SESSION_BYTES, at(0)));
        assert!(allowance.take(16 << 20, SESSION_BYTES, at(1)));
        assert!(!allowance.take(16 << 20, SESSION_BYTES, at(1)));
        assert!(allowance.take(SESSION_BYTES, SESSION_BYTES, at(60)));
        assert!(!allowance.take(1, SESSION_BYTES, at(60)));
    }

    #[test]
    fn one_text_larger_than_the_allowance_is_allowed() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert!(allowance.take(10 * SESSION_BYTES, SESSION_BYTES, now));
        assert!(!allowance.take(1, SESSION_BYTES, now));
    }
}

//! How much a peer can make a server inflate: far more than it sends, but not for long (PB-CMP-12).
//!
//! Inflating costs the receiver time in proportion to the text, and the sender next to nothing. So text beyond a usual
//! ratio is counted: each session, and all together, may take some at once, and more as time passes.

use std::time::{Duration, Instant};

/// Bytes that may be inflated beyond the usual ratio.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// What was taken of it, and when.
    taken: Option<(u64, Instant)>,
}

impl Allowance {
    /// Returns the bytes to be counted of a text of `size` bytes that arrived as `arrived`.
    pub(crate) fn excess(size: usize, arrived: usize) -> u64 {
        size.saturating_sub(arrived.saturating_mul(FREE_RATIO)) as u64
    }

    /// Takes `bytes` at `now`, if at most `most` are taken then, of which `most` come back in [`REFILL_TIME`]. Tells whether that
    /// was so; if not, nothing changes.
    pub(crate) fn take(&mut self, bytes: u64, most: u64, now: Instant) -> bool {
        let taken = self.taken.map_or(0, |(taken, at)| {
            let passed = now.saturating_duration_since(at).as_micros();
            let back = passed.saturating_mul(most.into()) / REFILL_TIME.as_micros();
            taken.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
        });
        // One text is always let in, however large it may be.
        let is_allowed = taken == 0 || taken.saturating_add(bytes) <= most;
        if is_allowed {
            self.taken = Some((taken.saturating_add(bytes), now));
        }
        is_allowed
    }
}

/// Text of up to so many times what arrived is not counted: what programs say to each other seldom shrinks so far.
const FREE_RATIO: usize = 32;
/// An allowance that was used up is whole again after this time.
const REFILL_TIME: Duration = Duration::from_secs(4);
/// What one session may inflate beyond the usual ratio: four of the largest bodies at once, then one in a second.
pub(crate) const SESSION_BYTES: u64 = 64 * 1024 * 1024;
/// What all sessions may together. At one core this takes a fifth of the time.
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
    fn one_text_larger_than_the_allowance_is_let_in() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert!(allowance.take(10 * SESSION_BYTES, SESSION_BYTES, now));
        assert!(!allowance.take(1, SESSION_BYTES, now));
    }
}

//! When a call that was not run is sent again: at once, then after pauses of random length that grow, so that clients of
//! a server that restarts do not come back all at the same moment (PB-OUT-*).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Outcome};

/// The attempts of one call, or of one connection that is to be kept.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    attempts: u32,
    /// Whether an attempt may have run.
    may_have_run: bool,
}

impl Retry {
    /// The pause before a call that ended with `error` is sent again. If it must not be, the error to tell: an earlier
    /// attempt may have run even if the last one has not. There is none that would take all that is `left` of its time.
    pub(crate) fn after(
        &mut self,
        error: Error,
        is_idempotent: bool,
        left: Option<Duration>,
    ) -> Result<Duration, Error> {
        let is_in_time = |pause: &Duration| left.is_none_or(|left| *pause < left);
        match self.pause_after(&error, is_idempotent).filter(is_in_time) {
            Some(pause) => {
                self.may_have_run |= error.outcome() == Outcome::Unknown;
                Ok(pause)
            }
            None => Err(self.told(error)),
        }
    }

    /// `error` as it is told for all attempts together.
    pub(crate) fn told(&self, error: Error) -> Error {
        match error.outcome() {
            Outcome::NotSent if self.may_have_run => error.with_outcome(Outcome::Unknown),
            _ => error,
        }
    }

    fn pause_after(&mut self, error: &Error, is_idempotent: bool) -> Option<Duration> {
        // Who cannot connect is told at once: nobody is there.
        let was_lost = error.kind() == ErrorKind::Disconnected;
        let is_safe = match error.outcome() {
            Outcome::NotSent => true,
            Outcome::Unknown => is_idempotent,
            Outcome::Replied => false,
        };
        if !was_lost || !is_safe || self.attempts >= ATTEMPTS {
            return None;
        }
        self.attempts += 1;
        Some(if self.attempts == 1 { Duration::ZERO } else { self.pause() })
    }

    /// The next pause of somebody who tries for ever.
    pub(crate) fn next(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.pause()
    }

    /// It has worked: the next trouble is a new one.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Full jitter: anything up to a bound that doubles.
    fn pause(&self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        // The standard library's only source of randomness is its hasher's seed.
        let random = RandomState::new().build_hasher().finish();
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random % nanos.max(1))
    }
}

const ATTEMPTS: u32 = 10;
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_run_is_sent_again() {
        let error = |kind, outcome| Error::new(kind, "").with_outcome(outcome);
        let retried = |kind, outcome, idempotent| {
            Retry::default().after(error(kind, outcome), idempotent, None).is_ok()
        };
        assert!(retried(ErrorKind::Disconnected, Outcome::NotSent, false));
        assert!(!retried(ErrorKind::Disconnected, Outcome::Unknown, false));
        assert!(retried(ErrorKind::Disconnected, Outcome::Unknown, true));
        assert!(!retried(ErrorKind::Connect, Outcome::NotSent, true));
        assert!(!retried(ErrorKind::Timeout, Outcome::Unknown, true));
        assert!(!retried(ErrorKind::Remote, Outcome::Replied, true));
    }

    #[test]
    fn one_attempt_that_may_have_run_counts_for_all() {
        let mut retry = Retry::default();
        let lost = Error::new(ErrorKind::Disconnected, "").with_outcome(Outcome::Unknown);
        assert!(retry.after(lost, true, None).is_ok());
        let nobody = Error::new(ErrorKind::Connect, "");
        assert_eq!(nobody.outcome(), Outcome::NotSent);
        assert_eq!(retry.after(nobody, true, None).unwrap_err().outcome(), Outcome::Unknown);
    }

    #[test]
    fn pauses_are_bounded_and_the_first_attempt_is_at_once() {
        let error = || Error::new(ErrorKind::Disconnected, "");
        let mut retry = Retry::default();
        assert_eq!(retry.after(error(), false, None).unwrap(), Duration::ZERO);
        for _ in 1..ATTEMPTS {
            assert!(retry.after(error(), false, None).unwrap() <= LONGEST);
        }
        assert!(retry.after(error(), false, None).is_err());
        for _ in 0..100 {
            assert!(retry.next() <= LONGEST);
        }
    }
}

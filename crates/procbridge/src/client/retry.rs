//! When what was lost is tried again, for everything that dials: calls that were not run, subscriptions, clients that serve
//! (PB-OUT-*, PB-EVT-10). Pauses have full jitter, so that clients of a server that restarts do not come back together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use procbridge_proto::{ProtocolError, code};

use crate::error::{Error, ErrorKind, Outcome, RemoteError};

/// The attempts of one call.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    attempts: u32,
    /// How many of them were lost.
    losses: u32,
    /// Whether an attempt may have run.
    may_have_run: bool,
}

/// The pauses of something that dials for as long as it is wanted. They grow until what was dialled for was in force for
/// [`STEADY`]: a server that takes a session and ends it is no better than one that takes none.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// Since when it is in force.
    since: Option<Instant>,
}

impl Backoff {
    /// Notes that what was dialled for is in force at `now`.
    pub fn begun(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The pause before the next attempt, after an attempt that failed or a loss at `now`.
    pub fn pause(&mut self, now: Instant) -> Duration {
        let lasted = self.since.take().map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= STABLE_SESSION) {
            self.failures = 0;
        }
        let bound = bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        up_to(bound)
    }
}

impl Retry {
    /// The pause before a call that ended with `error` is sent again. If it must not be, the error to tell: an earlier
    /// attempt may have run even if the last one has not. The pause ends before the time that is `left`.
    pub(crate) fn after(
        &mut self,
        error: Error,
        is_idempotent: bool,
        left: Option<Duration>,
    ) -> Result<Duration, Error> {
        if !self.is_again(&error, is_idempotent, left) {
            return Err(self.told(error));
        }
        self.may_have_run |= error.outcome() == Outcome::Unknown;
        self.attempts = self.attempts.saturating_add(1);
        self.losses += u32::from(error.kind() == ErrorKind::Disconnected);
        // The first is at once.
        let bound = self.attempts.checked_sub(2).map_or(Duration::ZERO, bound);
        // The attempt needs some of what is left.
        Ok(up_to(left.map_or(bound, |left| bound.min(left / 2))))
    }

    /// `error` as it is told for all attempts together.
    pub(crate) fn told(&self, error: Error) -> Error {
        if self.may_have_run { error.after_unknown() } else { error }
    }

    fn is_again(&self, error: &Error, is_idempotent: bool, left: Option<Duration>) -> bool {
        if left.is_some_and(|left| left < MIN_TIME_LEFT) {
            return false;
        }
        let was_lost = error.kind() == ErrorKind::Disconnected
            && match error.outcome() {
                Outcome::NotSent => true,
                Outcome::Unknown => is_idempotent,
                Outcome::Replied => false,
            };
        // A caller that reaches no server is told at once, unless the server was there for an earlier attempt: it restarts.
        let is_coming_back = is_idempotent && self.attempts > 0 && is_away(error);
        // What is lost has a number of attempts; a restart has the time of the call.
        let is_bounded = left.is_some() || self.attempts < ATTEMPTS;
        (was_lost && self.losses < ATTEMPTS) || (is_coming_back && is_bounded)
    }
}

/// Whether the server does not take calls at the moment, and has not run this one.
fn is_away(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connect => true,
        ErrorKind::Timeout => error.outcome() == Outcome::NotSent,
        ErrorKind::Remote => {
            let code = error.remote().and_then(RemoteError::code);
            matches!(code, Some(code::UNAVAILABLE | code::OVERLOADED))
        }
        _ => false,
    }
}

/// Whether waiting may cure what `error` says, for something that is to last: the server is away, full, or was cut off.
#[doc(hidden)]
pub fn may_pass(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Disconnected | ErrorKind::Io => true,
        ErrorKind::Remote => {
            let code = error.remote().and_then(RemoteError::code);
            matches!(code, Some(code::UNAVAILABLE | code::OVERLOADED | code::TIMEOUT | code::CANCELLED))
        }
        // A server that was killed while it wrote.
        ErrorKind::Protocol => {
            let behind = error.get_ref().and_then(|behind| behind.downcast_ref());
            matches!(behind, Some(ProtocolError::Truncated { .. }))
        }
        _ => false,
    }
}

/// The bound of the pause after so many failures in a row. It doubles.
fn bound(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE)
}

/// A random time up to `bound`.
fn up_to(bound: Duration) -> Duration {
    // The standard library's only source of randomness is its hasher's seed.
    let random = RandomState::new().build_hasher().finish();
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanos.max(1))
}

const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// What was in force for so long begins anew with its pauses. It is the mean of the longest pause: so a client whose sessions
/// end as soon as they have lasted dials no more often than one at its longest pauses.
const STABLE_SESSION: Duration = Duration::from_millis(2500);
/// An attempt needs more time than this.
const MIN_TIME_LEFT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, outcome: Outcome) -> Error {
        Error::new(kind, outcome, "")
    }

    #[test]
    fn only_what_cannot_have_run_is_sent_again() {
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
        assert!(retry.after(error(ErrorKind::Disconnected, Outcome::Unknown), true, None).is_ok());
        let denied = error(ErrorKind::Denied, Outcome::NotSent);
        assert_eq!(retry.after(denied, true, None).unwrap_err().outcome(), Outcome::Unknown);
    }

    #[test]
    fn pauses_are_bounded_and_the_first_attempt_is_at_once() {
        let lost = || error(ErrorKind::Disconnected, Outcome::NotSent);
        let mut retry = Retry::default();
        assert_eq!(retry.after(lost(), false, None).unwrap(), Duration::ZERO);
        for _ in 1..ATTEMPTS {
            assert!(retry.after(lost(), false, None).unwrap() <= MAX_PAUSE);
        }
        assert!(retry.after(lost(), false, None).is_err());
    }

    #[test]
    fn an_idempotent_call_that_was_lost_outlasts_a_restart() {
        let (lost, away) = (
            || error(ErrorKind::Disconnected, Outcome::Unknown),
            || error(ErrorKind::Connect, Outcome::NotSent),
        );
        let left = Duration::from_secs(3);
        let mut retry = Retry::default();
        assert!(retry.after(lost(), true, Some(left)).is_ok());
        for _ in 0..100 {
            assert!(retry.after(away(), true, Some(left)).unwrap() < left);
        }
        let over = retry.after(away(), true, Some(Duration::ZERO)).unwrap_err();
        assert_eq!((over.kind(), over.outcome()), (ErrorKind::Connect, Outcome::Unknown));
        // Any other call is told that the server is not there.
        let mut retry = Retry::default();
        assert!(retry.after(error(ErrorKind::Disconnected, Outcome::NotSent), false, Some(left)).is_ok());
        assert!(retry.after(away(), false, Some(left)).is_err());
    }

    /// The longest of many pauses after so many failures.
    fn longest(backoff: &Backoff, now: Instant) -> Duration {
        (0..200).map(|_| backoff.clone().pause(now)).max().unwrap()
    }

    #[test]
    fn pauses_grow_until_it_was_in_force_for_some_seconds() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(longest(&backoff, now) <= FIRST_PAUSE);
        for _ in 0..20 {
            // In force, and cut off at once.
            backoff.begun(now);
            now += Duration::from_millis(100);
            assert!(backoff.pause(now) <= MAX_PAUSE);
        }
        assert!(longest(&backoff, now) > MAX_PAUSE / 2);
        backoff.begun(now);
        // It is in force since the first word of that.
        backoff.begun(now + STABLE_SESSION / 2);
        assert!(longest(&backoff, now + STABLE_SESSION) <= FIRST_PAUSE);
        backoff.pause(now + STABLE_SESSION);
        assert!(backoff.failures == 1);
    }

    #[test]
    fn waiting_cures_a_server_that_is_full_or_was_cut_off_and_no_refusal() {
        let cut = ProtocolError::Truncated { received: 3, expected: 11, part: "header" };
        assert!(may_pass(&Error::protocol(cut, Outcome::Unknown)));
        assert!(!may_pass(&Error::protocol(
            ProtocolError::NotProcBridge { offset: 0, byte: 0 },
            Outcome::Unknown
        )));
        assert!(may_pass(&error(ErrorKind::Connect, Outcome::NotSent)));
        assert!(!may_pass(&error(ErrorKind::Remote, Outcome::Replied)));
        assert!(!may_pass(&error(ErrorKind::Denied, Outcome::NotSent)));
    }
}

//! When to retry, for everything that connects: calls that were not run, subscriptions, clients that serve (PB-OUT-*,
//! PB-EVT-10). Backoff pauses have full jitter, so that the clients of a restarting server do not reconnect at the same
//! time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use procbridge_proto::{ProtocolError, code};

use crate::error::{Error, ErrorKind, Outcome};
use crate::reply_error::ReplyError;

/// The attempts of one call.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    attempts: u32,
    /// How many of them were lost.
    losses: u32,
    /// Whether an attempt may have run.
    may_have_run: bool,
}

/// The backoff of something that reconnects for as long as it is wanted. The pauses grow until a session or
/// subscription was active for [`STABLE_SESSION`]. A server that accepts a session and ends it at once is no better
/// than one that accepts none.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// Since when it is active.
    since: Option<Instant>,
}

impl Backoff {
    /// Notes that the session or subscription is active at `now`.
    pub fn begun(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Returns the pause before the next attempt, after an attempt that failed or a loss at `now`.
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
    /// Returns the pause before a call that ended with `error` is retried; it ends before the time that is `left`. If
    /// there must be no retry, returns the error to report: an earlier attempt may have run even if the last one has
    /// not.
    pub(crate) fn after(
        &mut self,
        error: Error,
        is_idempotent: bool,
        left: Option<Duration>,
    ) -> Result<Duration, Error> {
        if !self.is_again(&error, is_idempotent, left) {
            return Err(self.reported(error));
        }
        self.may_have_run |= error.outcome() == Outcome::Unknown;
        self.attempts = self.attempts.saturating_add(1);
        self.losses += u32::from(error.kind() == ErrorKind::Disconnected);
        // The first retry is at once.
        let bound = self.attempts.checked_sub(2).map_or(Duration::ZERO, bound);
        // The attempt needs some of the time that is left.
        Ok(up_to(left.map_or(bound, |left| bound.min(left / 2))))
    }

    /// Returns `error` as it is reported for all attempts together.
    pub(crate) fn reported(&self, error: Error) -> Error {
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
        // A caller that reaches no server gets the error at once. If the server answered an earlier attempt, it is
        // restarting: retry.
        let is_coming_back = is_idempotent && self.attempts > 0 && is_away(error);
        // Losses are bounded by number; a restart is bounded by the call's timeout.
        let is_bounded = left.is_some() || self.attempts < ATTEMPTS;
        (was_lost && self.losses < ATTEMPTS) || (is_coming_back && is_bounded)
    }
}

/// Whether the server takes no calls at the moment, and has not run this one.
fn is_away(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connect => true,
        ErrorKind::Timeout => error.outcome() == Outcome::NotSent,
        ErrorKind::Remote => {
            let code = error.remote().and_then(ReplyError::code);
            matches!(code, Some(code::UNAVAILABLE | code::OVERLOADED))
        }
        _ => false,
    }
}

/// Whether waiting may resolve `error`, for something that is to last: the server is away, full, or was cut off.
#[doc(hidden)]
pub fn may_pass(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Disconnected | ErrorKind::Io => true,
        ErrorKind::Remote => {
            let code = error.remote().and_then(ReplyError::code);
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

/// Returns the bound of the pause after so many failures in a row. It doubles with each.
fn bound(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE)
}

/// Returns a random time up to `bound`.
fn up_to(bound: Duration) -> Duration {
    // The standard library's only source of randomness is its hasher's seed.
    let random = RandomState::new().build_hasher().finish();
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanos.max(1))
}

const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A session that was active for this long resets its backoff. It is the mean of the longest pause. So a client whose
/// sessions end just after this time reconnects no more often than one at its longest pauses.
const STABLE_SESSION: Duration = Duration::from_millis(2500);
/// The least time in which an attempt makes sense.
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
        // Any other call fails because the server cannot be reached.
        let mut retry = Retry::default();
        assert!(retry.after(error(ErrorKind::Disconnected, Outcome::NotSent), false, Some(left)).is_ok());
        assert!(retry.after(away(), false, Some(left)).is_err());
    }

    /// Returns the longest of many pauses after so many failures.
    fn longest(backoff: &Backoff, now: Instant) -> Duration {
        (0..200).map(|_| backoff.clone().pause(now)).max().unwrap()
    }

    #[test]
    fn pauses_grow_until_it_was_in_force_for_some_seconds() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(longest(&backoff, now) <= FIRST_PAUSE);
        for _ in 0..20 {
            // Active, and cut off at once.
            backoff.begun(now);
            now += Duration::from_millis(100);
            assert!(backoff.pause(now) <= MAX_PAUSE);
        }
        assert!(longest(&backoff, now) > MAX_PAUSE / 2);
        backoff.begun(now);
        // It is active since the first notice.
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

//! A full server makes room for a connection by ending a session: the one that has been idle longest.
//!
//! A session is idle while no call is in flight on it, either way; a stream and a subscription are calls. It must have been
//! idle for a moment, so that clients that come and go do not end those that work. A user whose sessions are not more
//! than those of another cannot be displaced by it: who opens many connections displaces its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::session::Link;
use crate::session::glance::Idle;

/// Ends idle sessions of one server.
#[derive(Debug)]
pub(crate) struct MakingRoom {
    start: Instant,
    /// Before which there is nothing to look for, in milliseconds since the start.
    next: AtomicU64,
}

/// Whose session it is: over TCP the address stands for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum User {
    Uid(u32),
    Address(IpAddr),
}

impl MakingRoom {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, next: AtomicU64::new(0) }
    }

    /// Ends the session that has been idle longest, with GOODBYE, so that `newcomer` has its place. Tells whether one was
    /// ended.
    pub(crate) fn end_one(
        &self,
        newcomer: &Peer,
        sessions: impl FnOnce() -> Vec<Arc<Link>>,
        now: Instant,
    ) -> bool {
        let millis = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        if millis < self.next.load(Ordering::Relaxed) {
            return false;
        }
        let sessions = sessions();
        let idle = |link: &Arc<Link>| match link.idle() {
            Some(Idle::Since(since)) => Some(since),
            Some(Idle::Busy) | None => None,
        };
        let found: Vec<_> = sessions.iter().map(|link| (User::of(&link.peer), idle(link))).collect();
        for at in candidates(User::of(newcomer), &found, now) {
            if sessions.get(at).is_some_and(|link| link.end_idle()) {
                return true;
            }
        }
        // Each refused connection would look at all sessions.
        self.next.store(millis + PAUSE, Ordering::Relaxed);
        false
    }
}

impl User {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Tcp(address) => Self::Address(address.ip()),
            Peer::Unix(unix) => Self::Uid(unix.uid),
        }
    }
}

/// The sessions that may be ended for `newcomer`, in this order. Of each session there is its user, and since when it is
/// idle, if it is.
fn candidates(newcomer: User, sessions: &[(User, Option<Instant>)], now: Instant) -> Vec<usize> {
    let mut counts: HashMap<User, usize> = HashMap::new();
    for (user, _) in sessions {
        *counts.entry(*user).or_default() += 1;
    }
    let count = |user: &User| counts.get(user).copied().unwrap_or(0);
    let own = count(&newcomer);
    let may_end = |user: &User| *user == newcomer || count(user) > own;
    let mut idle: Vec<_> = sessions
        .iter()
        .enumerate()
        .filter(|(_, (user, _))| may_end(user))
        .filter_map(|(at, (_, since))| Some((since.as_ref().copied()?, at)))
        .filter(|&(since, _)| now.saturating_duration_since(since) >= LEAST)
        .collect();
    idle.sort_unstable();
    idle.into_iter().map(|(_, at)| at).take(TRIES).collect()
}

/// How long a session must have been idle.
const LEAST: Duration = Duration::from_millis(250);
/// How long there is no other look after one that found nothing, in milliseconds.
const PAUSE: u64 = 100;
/// Sessions of which each may have become busy since the look.
const TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: User = User::Uid(1);
    const OTHER: User = User::Uid(2);

    fn chosen(newcomer: User, sessions: &[(User, Option<u64>)]) -> Vec<usize> {
        let now = Instant::now() + Duration::from_secs(1_000);
        let sessions: Vec<_> = sessions
            .iter()
            .map(|(user, idle)| (*user, idle.map(|idle| now - Duration::from_millis(50 * idle))))
            .collect();
        candidates(newcomer, &sessions, now)
    }

    #[test]
    fn what_is_idle_longest_goes_first_and_what_is_busy_stays() {
        assert_eq!(chosen(OWN, &[(OWN, Some(6)), (OWN, None), (OWN, Some(60)), (OWN, Some(4))]), [2, 0]);
        assert!(chosen(OWN, &[(OWN, None), (OWN, Some(4))]).is_empty());
    }

    #[test]
    fn a_user_with_many_sessions_displaces_its_own() {
        let many = [(OWN, Some(10)), (OWN, Some(20)), (OTHER, Some(90))];
        assert_eq!(chosen(OWN, &many), [1, 0]);
        // The other one may displace them, until it has as many.
        assert_eq!(chosen(OTHER, &many), [2, 1, 0]);
        assert_eq!(chosen(OTHER, &[(OWN, Some(10)), (OTHER, None)]), [0_usize; 0]);
        assert_eq!(chosen(OTHER, &[(OWN, Some(10))]), [0]);
    }
}

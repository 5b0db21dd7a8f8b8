//! Eviction: a full server ends the session that has been idle longest to admit a new connection.
//!
//! A session is idle while no call is in flight in either direction; a stream and a subscription are calls. It must
//! have been idle for a moment, so that clients that reconnect often do not evict those that work. The process with the
//! most sessions loses one first. A process or user is safe from another one that has as many sessions: a peer that
//! opens many connections evicts its own.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits::accounts::{ProcessKey, UserKey};
use crate::limits::admission::Whose;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::idle_scan::Idle;

/// Evicts idle sessions of one server.
#[derive(Debug)]
pub(crate) struct Eviction {
    start: Instant,
    /// Earliest time of the next search, in milliseconds since the start.
    next: AtomicU64,
}

/// The owner of a session. Over TCP the address stands for both user and process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: UserKey,
    process: ProcessKey,
}

impl Eviction {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, next: AtomicU64::new(0) }
    }

    /// Ends the session that has been idle longest, with GOODBYE, to admit `newcomer`. Returns whether one was ended.
    pub(crate) fn evict_one(
        &self,
        newcomer: &Peer,
        whose: Whose,
        sessions: impl FnOnce() -> Vec<Arc<Session>>,
        now: Instant,
    ) -> bool {
        let millis = u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        if millis < self.next.load(Ordering::Relaxed) {
            return false;
        }
        let sessions = sessions();
        let idle = |session: &Arc<Session>| match session.idle() {
            Some(Idle::Since(since)) => Some(since),
            Some(Idle::Busy) | None => None,
        };
        let found: Vec<_> =
            sessions.iter().map(|session| (Owner::of(&session.peer), idle(session))).collect();
        for at in candidates(Owner::of(newcomer), whose, &found, now) {
            if sessions.get(at).is_some_and(|session| session.end_idle()) {
                return true;
            }
        }
        // Without a pause each refused connection would search all sessions.
        self.next.store(millis + PAUSE_MILLIS, Ordering::Relaxed);
        false
    }
}

impl Owner {
    fn of(peer: &Peer) -> Self {
        Self { user: UserKey::of(peer), process: ProcessKey::of(peer) }
    }
}

/// Returns the indexes of the sessions that may be ended for `newcomer`, in this order. Each session is given by its
/// owner and since when it is idle, if it is.
fn candidates(
    newcomer: Owner,
    whose: Whose,
    sessions: &[(Owner, Option<Instant>)],
    now: Instant,
) -> Vec<usize> {
    let users = counts(sessions.iter().map(|(owner, _)| owner.user));
    let processes = counts(sessions.iter().map(|(owner, _)| owner.process));
    let of_user = |owner: Owner| users.get(&owner.user).copied().unwrap_or(0);
    let of_process = |owner: Owner| processes.get(&owner.process).copied().unwrap_or(0);
    let may_end = |owner: Owner| {
        if owner.process == newcomer.process {
            return true;
        }
        let has_more = if owner.user == newcomer.user {
            of_process(owner) > of_process(newcomer)
        } else {
            of_user(owner) > of_user(newcomer)
        };
        whose == Whose::All && has_more
    };
    let mut idle: Vec<_> = sessions
        .iter()
        .enumerate()
        .filter(|(_, (owner, _))| may_end(*owner))
        .filter_map(|(at, (owner, since))| Some((Reverse(of_process(*owner)), since.as_ref().copied()?, at)))
        .filter(|&(_, since, _)| now.saturating_duration_since(since) >= MIN_IDLE)
        .collect();
    idle.sort_unstable();
    idle.into_iter().map(|(_, _, at)| at).take(MAX_TRIES).collect()
}

fn counts<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut counts = HashMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// How long a session must have been idle.
const MIN_IDLE: Duration = Duration::from_millis(250);
/// Pause after a search that found nothing, in milliseconds.
const PAUSE_MILLIS: u64 = 100;
/// Sessions that are tried: each may have become busy since the search.
const MAX_TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Owner = owner(1, 10);
    const OTHER: Owner = owner(2, 20);

    const fn owner(uid: u32, pid: i32) -> Owner {
        Owner { user: UserKey::Unix(uid), process: ProcessKey::Unix { uid, pid } }
    }

    fn among(newcomer: Owner, whose: Whose, sessions: &[(Owner, Option<u64>)]) -> Vec<usize> {
        let now = Instant::now() + Duration::from_secs(1_000);
        let sessions: Vec<_> = sessions
            .iter()
            .map(|(owner, idle)| (*owner, idle.map(|idle| now - Duration::from_millis(50 * idle))))
            .collect();
        candidates(newcomer, whose, &sessions, now)
    }

    fn chosen(newcomer: Owner, sessions: &[(Owner, Option<u64>)]) -> Vec<usize> {
        among(newcomer, Whose::All, sessions)
    }

    #[test]
    fn the_longest_idle_session_is_evicted_first_and_a_busy_one_stays() {
        assert_eq!(chosen(OWN, &[(OWN, Some(6)), (OWN, None), (OWN, Some(60)), (OWN, Some(4))]), [2, 0]);
        assert!(chosen(OWN, &[(OWN, None), (OWN, Some(4))]).is_empty());
    }

    #[test]
    fn a_user_with_many_sessions_displaces_its_own() {
        let many = [(OWN, Some(10)), (OWN, Some(20)), (OTHER, Some(90))];
        assert_eq!(chosen(OWN, &many), [1, 0]);
        // The other user may evict them until it has as many.
        assert_eq!(chosen(OTHER, &many), [1, 0, 2]);
        assert_eq!(chosen(OTHER, &[(OWN, Some(10)), (OTHER, None)]), [0_usize; 0]);
        assert_eq!(chosen(OTHER, &[(OWN, Some(10))]), [0]);
    }

    #[test]
    fn the_process_with_most_sessions_loses_one_first() {
        let second = owner(1, 11);
        let mixed = [(second, Some(90)), (OWN, Some(10)), (OWN, Some(20))];
        assert_eq!(chosen(owner(1, 12), &mixed), [2, 1, 0]);
        assert_eq!(chosen(second, &mixed), [2, 1, 0]);
        // Many processes of a user do not evict the sessions of another user that has fewer.
        let many = [(second, Some(10)), (OWN, Some(20)), (OTHER, Some(90))];
        assert_eq!(chosen(owner(1, 12), &many), [1, 0]);
    }

    #[test]
    fn a_process_at_its_share_evicts_its_own() {
        let mixed = [(OWN, Some(10)), (OTHER, Some(20)), (OTHER, Some(30))];
        assert_eq!(among(OWN, Whose::Own, &mixed), [0]);
        assert_eq!(among(OWN, Whose::All, &mixed), [2, 1, 0]);
    }
}

//! The keepalive of a session: when it pings, gives a silent peer up, or ends an idle session. The faces pass the time
//! in (PB-PNG-*).

use std::time::{Duration, Instant};

/// The keepalive state of one session.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// When the peer last gave a sign of life: it sent or read something.
    heard: Instant,
    /// When a thread or task last checked the session.
    seen: Instant,
    /// PINGs sent since `heard`.
    pinged: u32,
    /// How long after `heard` the last of them was sent, in milliseconds.
    asked: u32,
    /// When a call was last in flight.
    used: Instant,
    /// The rate of the peer's PINGs, if it has sent any.
    flood: Option<Box<PingRate>>,
}

#[derive(Debug)]
struct PingRate {
    window: Instant,
    /// PINGs received before the window.
    before: u64,
    /// PINGs received until now.
    pings: u64,
    strikes: u32,
}

/// The settings of a keepalive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepaliveConfig {
    /// Silence before a PING, and before each further one.
    pub(crate) keepalive: Option<Duration>,
    /// Time without a call before the session is ended.
    pub(crate) idle: Option<Duration>,
}

/// The next step of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveAction {
    Nothing,
    Ping,
    /// The peer has sent nothing for too long.
    Dead,
    /// No call was in flight for too long.
    Idle,
}

impl Keepalive {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, seen: now, pinged: 0, asked: 0, used: now, flood: None }
    }

    /// Returns when a thread or task last checked the session.
    pub(crate) fn seen(&self) -> Instant {
        self.seen
    }

    /// Returns when a call was last in flight, or the session began.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// Returns when the peer last gave a sign of life.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Notes that the session was checked, and nothing had arrived.
    pub(crate) fn note_seen(&mut self, now: Instant) {
        self.seen = now;
    }

    /// Notes that something has arrived.
    pub(crate) fn note_received(&mut self, now: Instant) {
        self.heard = now;
        self.seen = now;
        (self.pinged, self.asked) = (0, 0);
    }

    /// Notes that a call, or the answer to one, has arrived.
    pub(crate) fn note_used(&mut self) {
        self.used = self.heard;
    }

    /// Whether the peer, which has sent `pings` PINGs by now, sends too many of them.
    pub(crate) fn is_flooded(&mut self, now: Instant, pings: u64) -> bool {
        if pings == 0 {
            return false;
        }
        let first = || Box::new(PingRate { window: now, before: 0, pings: 0, strikes: 0 });
        let flood = self.flood.get_or_insert_with(first);
        if now.saturating_duration_since(flood.window) >= PING_WINDOW {
            // PINGs that begin the window belong to it.
            (flood.window, flood.before) = (now, flood.pings);
        }
        flood.pings = pings;
        if pings.saturating_sub(flood.before) > MAX_PINGS {
            flood.strikes += 1;
            flood.before = pings;
        }
        flood.strikes >= MAX_STRIKES
    }

    /// Returns what to do now, and when to ask again.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        config: KeepaliveConfig,
        in_flight: bool,
    ) -> (KeepaliveAction, Option<Instant>) {
        if in_flight {
            self.used = now;
        }
        let mut next = None;
        if let Some(keepalive) = config.keepalive {
            // Each PING has a whole interval to be answered, however late it was sent: this process may have been
            // suspended.
            let asked = Duration::from_millis(self.asked.into());
            let silence = if self.pinged == 0 { keepalive.max(PING_PAUSE) } else { keepalive };
            let due = self.heard.checked_add(silence.saturating_add(asked));
            if due.is_some_and(|due| now >= due) {
                if self.pinged >= MAX_MISSED {
                    return (KeepaliveAction::Dead, None);
                }
                self.pinged += 1;
                let asked = now.saturating_duration_since(self.heard).as_millis();
                self.asked = u32::try_from(asked).unwrap_or(u32::MAX);
                return (KeepaliveAction::Ping, now.checked_add(keepalive));
            }
            next = due;
        }
        if let Some(idle) = config.idle {
            let due = self.used.checked_add(idle);
            if due.is_some_and(|due| now >= due) {
                return (KeepaliveAction::Idle, None);
            }
            next = [next, due].into_iter().flatten().min();
        }
        (KeepaliveAction::Nothing, next)
    }
}

/// Unanswered PINGs from which on the peer counts as dead.
const MAX_MISSED: u32 = 2;
/// PINGs of the peer that are allowed in each window.
const MAX_PINGS: u64 = 10;
const PING_WINDOW: Duration = Duration::from_secs(10);
/// Least silence before the first PING, whatever the keepalive: a peer that answers each PING receives no more of them
/// than it allows (PB-PNG-6).
const PING_PAUSE: Duration = Duration::from_secs(1);
/// Windows with too many PINGs that are a flood.
const MAX_STRIKES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_pinged_twice_and_given_up() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: Some(15 * SECOND), idle: None };
        let mut keepalive = Keepalive::new(start);
        assert_eq!(
            keepalive.tick(start + 14 * SECOND, config, true),
            (KeepaliveAction::Nothing, Some(start + 15 * SECOND))
        );
        assert_eq!(
            keepalive.tick(start + 15 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 30 * SECOND))
        );
        assert_eq!(keepalive.tick(start + 16 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(keepalive.tick(start + 30 * SECOND, config, true).0, KeepaliveAction::Ping);
        assert_eq!(keepalive.tick(start + 45 * SECOND, config, true).0, KeepaliveAction::Dead);
    }

    #[test]
    fn a_peer_has_time_to_answer_each_ping_of_a_suspended_process() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: Some(15 * SECOND), idle: None };
        let mut keepalive = Keepalive::new(start);
        assert_eq!(
            keepalive.tick(start + 100 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 115 * SECOND))
        );
        let next = Some(start + 115 * SECOND);
        assert_eq!(keepalive.tick(start + 100 * SECOND, config, true), (KeepaliveAction::Nothing, next));
        assert_eq!(
            keepalive.tick(start + 200 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 215 * SECOND))
        );
        assert_eq!(keepalive.tick(start + 214 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(keepalive.tick(start + 215 * SECOND, config, true).0, KeepaliveAction::Dead);
    }

    #[test]
    fn whatever_arrives_is_a_sign_of_life() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: Some(15 * SECOND), idle: None };
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.tick(start + 15 * SECOND, config, true).0, KeepaliveAction::Ping);
        keepalive.note_received(start + 16 * SECOND);
        assert_eq!(keepalive.tick(start + 30 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(keepalive.tick(start + 31 * SECOND, config, true).0, KeepaliveAction::Ping);
    }

    #[test]
    fn a_session_without_calls_ends() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: None, idle: Some(600 * SECOND) };
        let mut keepalive = Keepalive::new(start);
        assert_eq!(keepalive.tick(start + 500 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(keepalive.tick(start + 1099 * SECOND, config, false).0, KeepaliveAction::Nothing);
        assert_eq!(keepalive.tick(start + 1100 * SECOND, config, false).0, KeepaliveAction::Idle);
    }

    #[test]
    fn a_call_between_two_ticks_is_a_use() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: None, idle: Some(600 * SECOND) };
        let mut keepalive = Keepalive::new(start);
        keepalive.note_received(start + 500 * SECOND);
        assert_eq!(keepalive.tick(start + 600 * SECOND, config, false).0, KeepaliveAction::Idle);
        keepalive.note_used();
        let next = Some(start + 1100 * SECOND);
        assert_eq!(keepalive.tick(start + 600 * SECOND, config, false), (KeepaliveAction::Nothing, next));
    }

    #[test]
    fn pings_that_begin_a_window_are_counted_in_it() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start);
        assert!(!keepalive.is_flooded(start, 11));
        assert!(!keepalive.is_flooded(start + 20 * SECOND, 22));
        assert!(keepalive.is_flooded(start + 40 * SECOND, 33));
    }

    /// Both sides of a session may have any keepalive.
    #[test]
    fn a_short_heartbeat_is_no_flood_for_a_peer_that_answers() {
        let start = Instant::now();
        let config = KeepaliveConfig { keepalive: Some(SECOND / 10), idle: None };
        let (mut keepalive, mut peer) = (Keepalive::new(start), Keepalive::new(start));
        let (mut now, mut pings) = (start, 0);
        while now < start + 100 * SECOND {
            now += SECOND / 100;
            if keepalive.tick(now, config, true).0 == KeepaliveAction::Ping {
                pings += 1;
                assert!(!peer.is_flooded(now, pings), "after {pings} pings in {:?}", now - start);
                keepalive.note_received(now);
            }
        }
        assert!(pings >= 90);
        // A peer that does not answer is given up soon.
        let dead =
            (1..).find(|&n| keepalive.tick(now + n * SECOND / 100, config, true).0 == KeepaliveAction::Dead);
        assert!(dead.is_some_and(|dead| dead <= 130), "{dead:?}");
    }

    #[test]
    fn three_windows_of_too_many_pings_are_too_many() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(start);
        assert!(!keepalive.is_flooded(start, 10));
        assert!(!keepalive.is_flooded(start + 11 * SECOND, 20));
        assert!(!keepalive.is_flooded(start + 12 * SECOND, 31));
        assert!(!keepalive.is_flooded(start + 13 * SECOND, 42));
        assert!(keepalive.is_flooded(start + 14 * SECOND, 53));
    }
}

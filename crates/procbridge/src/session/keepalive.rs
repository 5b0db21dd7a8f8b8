//! When a session is pinged, given up as dead, or ended because nobody uses it: rules about time, told the time by the
//! faces (PB-PNG-*).

use std::time::{Duration, Instant};

/// The times of one session.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// When the peer was last heard of.
    heard: Instant,
    /// When the session was last looked at.
    seen: Instant,
    /// PINGs sent since the peer was heard of.
    pinged: u32,
    /// How long after that the last of them was sent, in milliseconds.
    asked: u32,
    /// When a call was last in flight.
    used: Instant,
    /// The running count of the peer's PINGs, if there were any.
    flood: Option<Box<PingRate>>,
}

#[derive(Debug)]
struct PingRate {
    window: Instant,
    /// How many PINGs had come before the window.
    before: u64,
    /// How many have come by now.
    pings: u64,
    strikes: u32,
}

/// The settings of a pulse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepaliveConfig {
    /// Silence before a PING, and before each further one.
    pub(crate) heartbeat: Option<Duration>,
    /// Time without a call before the session is ended.
    pub(crate) idle: Option<Duration>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveAction {
    Nothing,
    Ping,
    /// The peer has not been heard of for too long.
    Dead,
    /// Nobody has used the session for long.
    Idle,
}

impl Keepalive {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, seen: now, pinged: 0, asked: 0, used: now, flood: None }
    }

    /// When the session was last looked at.
    pub(crate) fn seen(&self) -> Instant {
        self.seen
    }

    /// When a call was last in flight, or the session began.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// When the peer was last heard of.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// The session was looked at, and nothing was there.
    pub(crate) fn note_seen(&mut self, now: Instant) {
        self.seen = now;
    }

    /// Something has arrived.
    pub(crate) fn note_received(&mut self, now: Instant) {
        self.heard = now;
        self.seen = now;
        (self.pinged, self.asked) = (0, 0);
    }

    /// What has arrived is a call, or the answer to one.
    pub(crate) fn note_used(&mut self) {
        self.used = self.heard;
    }

    /// Tells whether the peer, which has sent `pings` PINGs by now, sends too many of them.
    pub(crate) fn is_flooded(&mut self, now: Instant, pings: u64) -> bool {
        if pings == 0 {
            return false;
        }
        let first = || Box::new(PingRate { window: now, before: 0, pings: 0, strikes: 0 });
        let flood = self.flood.get_or_insert_with(first);
        if now.saturating_duration_since(flood.window) >= PING_WINDOW {
            // Those that begin the window belong to it.
            (flood.window, flood.before) = (now, flood.pings);
        }
        flood.pings = pings;
        if pings.saturating_sub(flood.before) > MAX_PINGS {
            flood.strikes += 1;
            flood.before = pings;
        }
        flood.strikes >= MAX_STRIKES
    }

    /// What is to be done now, and when to ask again.
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
        if let Some(heartbeat) = config.heartbeat {
            // Each PING has its time to be answered, however late it was sent: this process may have been asleep.
            let asked = Duration::from_millis(self.asked.into());
            let silence = if self.pinged == 0 { heartbeat.max(PING_PAUSE) } else { heartbeat };
            let due = self.heard.checked_add(silence.saturating_add(asked));
            if due.is_some_and(|due| now >= due) {
                if self.pinged >= MAX_MISSED {
                    return (KeepaliveAction::Dead, None);
                }
                self.pinged += 1;
                let asked = now.saturating_duration_since(self.heard).as_millis();
                self.asked = u32::try_from(asked).unwrap_or(u32::MAX);
                return (KeepaliveAction::Ping, now.checked_add(heartbeat));
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

/// PINGs without an answer before the peer counts as dead.
const MAX_MISSED: u32 = 2;
/// PINGs of the peer that are answered without a thought in each window.
const MAX_PINGS: u64 = 10;
const PING_WINDOW: Duration = Duration::from_secs(10);
/// The least silence before the first PING, whatever the heartbeat is: a peer that answers each is not sent more of them
/// than it may take (PB-PNG-6).
const PING_PAUSE: Duration = Duration::from_secs(1);
/// Windows with too many.
const MAX_STRIKES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_pinged_twice_and_given_up() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: Some(15 * SECOND), idle: None };
        let mut pulse = Keepalive::new(start);
        assert_eq!(
            pulse.tick(start + 14 * SECOND, config, true),
            (KeepaliveAction::Nothing, Some(start + 15 * SECOND))
        );
        assert_eq!(
            pulse.tick(start + 15 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 30 * SECOND))
        );
        assert_eq!(pulse.tick(start + 16 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(pulse.tick(start + 30 * SECOND, config, true).0, KeepaliveAction::Ping);
        assert_eq!(pulse.tick(start + 45 * SECOND, config, true).0, KeepaliveAction::Dead);
    }

    #[test]
    fn a_peer_has_time_to_answer_each_ping_of_who_was_asleep() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: Some(15 * SECOND), idle: None };
        let mut pulse = Keepalive::new(start);
        assert_eq!(
            pulse.tick(start + 100 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 115 * SECOND))
        );
        let next = Some(start + 115 * SECOND);
        assert_eq!(pulse.tick(start + 100 * SECOND, config, true), (KeepaliveAction::Nothing, next));
        assert_eq!(
            pulse.tick(start + 200 * SECOND, config, true),
            (KeepaliveAction::Ping, Some(start + 215 * SECOND))
        );
        assert_eq!(pulse.tick(start + 214 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(pulse.tick(start + 215 * SECOND, config, true).0, KeepaliveAction::Dead);
    }

    #[test]
    fn whatever_arrives_is_a_sign_of_life() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: Some(15 * SECOND), idle: None };
        let mut pulse = Keepalive::new(start);
        assert_eq!(pulse.tick(start + 15 * SECOND, config, true).0, KeepaliveAction::Ping);
        pulse.note_received(start + 16 * SECOND);
        assert_eq!(pulse.tick(start + 30 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(pulse.tick(start + 31 * SECOND, config, true).0, KeepaliveAction::Ping);
    }

    #[test]
    fn a_session_without_calls_ends() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: None, idle: Some(600 * SECOND) };
        let mut pulse = Keepalive::new(start);
        assert_eq!(pulse.tick(start + 500 * SECOND, config, true).0, KeepaliveAction::Nothing);
        assert_eq!(pulse.tick(start + 1099 * SECOND, config, false).0, KeepaliveAction::Nothing);
        assert_eq!(pulse.tick(start + 1100 * SECOND, config, false).0, KeepaliveAction::Idle);
    }

    #[test]
    fn a_call_between_two_looks_is_a_use() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: None, idle: Some(600 * SECOND) };
        let mut pulse = Keepalive::new(start);
        pulse.note_received(start + 500 * SECOND);
        assert_eq!(pulse.tick(start + 600 * SECOND, config, false).0, KeepaliveAction::Idle);
        pulse.note_used();
        let next = Some(start + 1100 * SECOND);
        assert_eq!(pulse.tick(start + 600 * SECOND, config, false), (KeepaliveAction::Nothing, next));
    }

    #[test]
    fn pings_that_begin_a_window_are_counted_in_it() {
        let start = Instant::now();
        let mut pulse = Keepalive::new(start);
        assert!(!pulse.is_flooded(start, 11));
        assert!(!pulse.is_flooded(start + 20 * SECOND, 22));
        assert!(pulse.is_flooded(start + 40 * SECOND, 33));
    }

    /// Both sides of a session may have any heartbeat.
    #[test]
    fn a_short_heartbeat_is_no_flood_for_a_peer_that_answers() {
        let start = Instant::now();
        let config = KeepaliveConfig { heartbeat: Some(SECOND / 10), idle: None };
        let (mut pulse, mut peer) = (Keepalive::new(start), Keepalive::new(start));
        let (mut now, mut pings) = (start, 0);
        while now < start + 100 * SECOND {
            now += SECOND / 100;
            if pulse.tick(now, config, true).0 == KeepaliveAction::Ping {
                pings += 1;
                assert!(!peer.is_flooded(now, pings), "after {pings} pings in {:?}", now - start);
                pulse.note_received(now);
            }
        }
        assert!(pings >= 90);
        // One that does not answer is given up soon.
        let dead =
            (1..).find(|&n| pulse.tick(now + n * SECOND / 100, config, true).0 == KeepaliveAction::Dead);
        assert!(dead.is_some_and(|dead| dead <= 130), "{dead:?}");
    }

    #[test]
    fn three_windows_of_too_many_pings_are_too_many() {
        let start = Instant::now();
        let mut pulse = Keepalive::new(start);
        assert!(!pulse.is_flooded(start, 10));
        assert!(!pulse.is_flooded(start + 11 * SECOND, 20));
        assert!(!pulse.is_flooded(start + 12 * SECOND, 31));
        assert!(!pulse.is_flooded(start + 13 * SECOND, 42));
        assert!(pulse.is_flooded(start + 14 * SECOND, 53));
    }
}

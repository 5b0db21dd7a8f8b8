//! The timers of a session: pings a quiet peer, and ends the session of a peer that is silent, slow, or does not read
//! (PB-PNG-*). [`keepalive`](crate::session::keepalive) has the rules for pings.

use std::time::Instant;

use crate::config::check::no_shorter;
use crate::limits::permits::Resource;
use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::keepalive::{KeepaliveAction, KeepaliveConfig};
use crate::session::session::Session;
use crate::session::state::State;
use crate::telemetry::log::LogClass;

impl SessionContext {
    /// Returns when the session ends unless the peer reads something of what was sent.
    fn stall_deadline(&self, state: &State) -> Option<Instant> {
        state.writing.blocked.and_then(|since| since.checked_add(self.admission.config.write_timeout))
    }

    /// Returns when the session ends unless the peer reads, or goes on sending what it has begun.
    pub(super) fn next_deadline(&self, state: &State) -> Option<Instant> {
        let over = state
            .writing
            .over_share
            .and_then(|(since, _)| since.checked_add(self.admission.config.write_timeout));
        [self.stall_deadline(state), state.reading.receive_rate.as_deref().map(ReceiveRate::deadline), over]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the peer's answers exceeded its share for `write_timeout`, and it has not read as much as its share
    /// meanwhile.
    fn is_too_slow(&self, state: &mut State, now: Instant) -> bool {
        let Some((since, taken)) = state.writing.over_share else { return false };
        let share = self.admission.session_share();
        if self.account.used(Resource::Answers) <= share {
            state.writing.over_share = None;
        } else if now.saturating_duration_since(since) >= self.admission.config.write_timeout {
            if state.writing.bytes_taken.saturating_sub(taken) < share as u64 {
                return true;
            }
            state.writing.over_share = Some((now, state.writing.bytes_taken));
        }
        false
    }

    fn keepalive_config(&self) -> KeepaliveConfig {
        let config = &self.admission.config;
        let idle = no_shorter(config.idle_timeout).filter(|_| matches!(self.peer, Peer::Tcp(_)));
        KeepaliveConfig { keepalive: no_shorter(config.keepalive), idle }
    }

    /// Runs the timers due at `now`, for a caller that holds the lock and is about to read. Returns when the next one
    /// is due.
    pub(super) fn tick_with(&self, state: &mut State, now: Instant) -> Option<Instant> {
        if state.end.is_some() {
            return None;
        }
        let is_stalled = |state: &State| self.stall_deadline(state).is_some_and(|stalled| stalled <= now);
        if is_stalled(state) {
            // The peer may have begun to read while this process was suspended.
            state.flush(self);
        }
        if is_stalled(state) || self.is_too_slow(state, now) {
            let why = "does not read its answers in time (write_timeout)";
            state.unlocked.log_line = Some(Box::new((LogClass::Write, why.into())));
            state.end(self.socket(), End::Stalled);
            return None;
        }
        if state.is_paused(self) {
            // This side does not read: the peer is not slow to send.
            state.reading.receive_rate = None;
        }
        let late = state.reading.receive_rate.as_deref().map(ReceiveRate::deadline);
        if late.is_some_and(|late| late <= now) {
            let why = "a request did not arrive in time (min_body_rate)";
            state.unlocked.log_line = Some(Box::new((LogClass::Refused, why.into())));
            state.connection.goodbye(why);
            state.flush(self);
            state.end(self.socket(), End::Closed);
            return None;
        }
        let in_flight = !state.outgoing.calls.is_empty() || !state.incoming.served.is_empty();
        let (mut action, mut next) = state.keepalive.tick(now, self.keepalive_config(), in_flight);
        if action == KeepaliveAction::Dead && socket::has_input(self.socket()) {
            // Input that has not been read yet is a sign of life too.
            state.keepalive.note_received(now);
            (action, next) = state.keepalive.tick(now, self.keepalive_config(), in_flight);
        }
        match action {
            KeepaliveAction::Nothing => {}
            KeepaliveAction::Ping => {
                state.connection.ping();
                state.flush(self);
            }
            KeepaliveAction::Dead => {
                // The peer may be about to call: a program without a reading thread answers no PING.
                state.connection.goodbye("no sign of life");
                state.flush(self);
                state.end(self.socket(), End::Silent);
            }
            KeepaliveAction::Idle => {
                state.connection.goodbye("idle");
                state.flush(self);
            }
        }
        let spare = state.drop_spare(now);
        let calls = state.expire_calls(self, now);
        [next, self.next_deadline(state), spare, calls].into_iter().flatten().min()
    }
}

impl Session {
    /// Runs the timers due at `now`, and returns when the next one is due.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        self.with(|state| {
            state.drop_buffer(usize::MAX);
            self.tick_with(state, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::session::reading::Reader;
    use crate::session::testing::{Ends, call};

    #[test]
    fn a_silent_peer_is_given_up() {
        let Ends { session, socket: _socket, .. } = Ends::client(Reader::None, 8);
        let _waiting = session.begin(call("work", &(), ResultForm::Result)).unwrap();
        let keepalive = session.admission.config.keepalive.unwrap();
        let start = Instant::now();
        for count in 1..=3 {
            assert!(!session.has_ended());
            session.tick(start + count * keepalive + Duration::from_secs(1));
        }
        assert!(matches!(session.end_reason(), Some(End::Silent)), "{:?}", session.end_reason());
    }

    #[test]
    fn unread_input_is_a_sign_of_life() {
        let Ends { session, mut peer, mut socket } = Ends::client(Reader::None, 8);
        let keepalive = session.admission.config.keepalive.unwrap();
        let start = Instant::now();
        let tick = |count| session.tick(start + count * keepalive + Duration::from_secs(1));
        tick(1);
        tick(2);
        peer.ping();
        socket.write_all(peer.transmit()).unwrap();
        assert!(tick(3) > Some(start + 4 * keepalive));
        for count in 4..7 {
            tick(count);
        }
        // The input is still there, as no thread reads.
        assert!(session.is_open());
    }

    #[test]
    fn a_peer_that_has_begun_to_read_is_not_given_up() {
        let Ends { session, mut socket, .. } = Ends::client(Reader::None, 8);
        session.notify(call("large", &"x".repeat(8 << 20), ResultForm::OneWay)).unwrap();
        assert!(session.is_blocked());
        let limit = session.admission.config.write_timeout;
        let mut bytes = vec![0; 64 << 10];
        assert!(socket.read(&mut bytes).unwrap() > 0);
        session.tick(Instant::now() + limit);
        assert!(!session.has_ended());
        // Without another read by the peer the socket stays full.
        session.tick(Instant::now() + 2 * limit);
        assert!(matches!(session.end_reason(), Some(End::Stalled)));
    }

    /// Fault H7: a peer that reads a little now and then would occupy memory without end.
    #[test]
    fn a_peer_that_does_not_read_its_share_in_time_is_given_up() {
        let Ends { session, socket: _socket, .. } = Ends::server(Reader::None);
        let (share, limit) = (session.admission.session_share(), session.admission.config.write_timeout);
        let waiting = session.admission.answer(&session.account, share).unwrap();
        let more = session.acquire_reply_bytes(1 << 20).unwrap();
        let start = Instant::now();
        assert!(session.tick(start) <= Some(start + limit));
        // The peer has read as much as it must.
        session.with(|state| state.writing.bytes_taken += share as u64);
        session.tick(start + limit + Duration::from_millis(1));
        assert!(!session.has_ended());
        session.tick(start + 2 * limit + Duration::from_secs(1));
        assert!(matches!(session.end_reason(), Some(End::Stalled)));
        drop((waiting, more));
    }

    #[test]
    fn a_session_within_its_share_is_not_ended_for_what_is_queued() {
        let Ends { session, socket: _socket, .. } = Ends::server(Reader::None);
        let (share, limit) = (session.admission.session_share(), session.admission.config.write_timeout);
        let waiting = session.admission.answer(&session.account, share).unwrap();
        let more = session.acquire_reply_bytes(1 << 20).unwrap();
        drop(waiting);
        session.tick(Instant::now() + limit + Duration::from_millis(1));
        assert!(session.is_open());
        drop(more);
    }
}

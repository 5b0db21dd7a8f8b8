//! The mutable state of a session: hands out what arrives, writes what is queued, and wakes every waiter at the end.
//!
//! A thread or task changes it under the lock ([`Session::with`](crate::session::Session::with)) and wakes others after
//! the lock is released.

use std::collections::VecDeque;
use std::iter;
use std::os::fd::AsFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Connection};

use crate::error::Sent;
use crate::net::socket;
use crate::session::call_slot::{CallEnd, Outgoing};
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::keepalive::Keepalive;
use crate::session::reading::{Reader, Reading};
use crate::session::served_call::{Incoming, IncomingCall, SessionPermits};
use crate::session::waker::Unlocked;
use crate::session::writing::Writing;

/// The mutable state of a session: the connection, and parts that do not know each other.
pub(crate) struct State {
    pub(crate) connection: Connection,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
    pub(super) unlocked: Unlocked,
    pub(super) keepalive: Keepalive,
    pub(super) end: Option<Box<End>>,
}

impl State {
    /// Wakes `waker` after the lock is released.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.unlocked.to_wake.extend(waker);
    }

    /// Wakes the standby.
    pub(super) fn wake_standby(&mut self) {
        let standby = self.incoming.standby.take();
        self.wake(standby);
    }

    /// Queues an incoming call and wakes the standby to serve it.
    pub(super) fn queue_call(&mut self, incoming: IncomingCall) {
        self.incoming.ready.push_back(incoming);
        self.wake_standby();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the next thread to arrive becomes the leader.
    pub(super) fn has_no_reader(&self) -> bool {
        self.reading.reader == Reader::None && !self.reading.is_leader_promoted && !self.has_ended()
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_none() && self.writing.write_error.is_none() && !self.connection.is_leaving()
    }

    /// Frees the read buffer of an idle session unless its capacity exceeds `limit`: such a session was busy and may be
    /// again.
    pub(super) fn drop_buffer(&mut self, limit: usize) {
        if self.reading.has_buffer {
            let buffer = self.connection.read_buffer();
            if buffer.is_empty() && buffer.capacity() <= limit {
                *buffer = Vec::new();
                self.reading.has_buffer = false;
            }
        }
    }

    /// Frees the memory that a session needs only while calls are in flight: a server may have many idle sessions.
    pub(super) fn shrink(&mut self) {
        self.drop_buffer(usize::MAX);
        self.connection.shrink();
        if self.incoming.ready.capacity() <= KEPT_CAPACITY {
            self.incoming.ready = VecDeque::new();
        }
        self.incoming.served.shrink();
    }

    /// Frees the memory of large messages some time after the last of them. Returns when it is due, if that is later.
    pub(super) fn drop_spare(&mut self, now: Instant) -> Option<Instant> {
        if !self.connection.has_spare() {
            return None;
        }
        let due = self.keepalive.heard() + KEEP_LARGE_BUFFERS;
        if due > now {
            return Some(due);
        }
        self.connection.drop_spare();
        None
    }

    /// Wakes a follower to become the leader, if there is none: the standby first, then a caller, then a queued call.
    ///
    /// `own`: the waker of a thread that stops waiting. It may still be registered, for a call about to be cancelled or
    /// a stream that is read later. It is removed, as that thread would not become the leader.
    pub(super) fn promote_follower(&mut self, context: &SessionContext, own: Option<&Waker>) {
        if let Some(own) = own {
            let waiting = iter::once(&mut self.incoming.standby);
            for waker in waiting.chain(self.outgoing.calls.iter_mut().map(|(_, slot)| &mut slot.waker)) {
                waker.take_if(|waker| waker.will_wake(own));
            }
        }
        self.reading.is_leader_promoted = false;
        if self.reading.reader == Reader::None {
            let mut next = self.incoming.standby.take();
            if next.is_none() {
                next = self.outgoing.calls.iter_mut().find_map(|(_, slot)| slot.waiting());
                self.reading.is_leader_promoted = next.is_some() && self.outgoing.calls.len() >= MANY_CALLERS;
                // No caller waits for an answer: a queued call reads the answers that free permits.
                next = next.or_else(|| self.outgoing.queued.as_ref()?.first(own));
            }
            self.unlocked.to_wake.extend(next);
            if self.writing.is_flush_pending && !self.reading.is_leader_promoted {
                self.flush(context);
            }
        }
    }

    pub(super) fn end_call(&mut self, id: CallId, answer: CallEnd) {
        if let Some(slot) = self.outgoing.calls.get_mut(id) {
            #[cfg(feature = "tokio")]
            {
                self.unlocked.wakes_large |= slot.is_large || matches!(answer, CallEnd::Unread(_));
            }
            slot.answer.get_or_insert(answer);
            let waker = slot.waiting();
            self.wake(waker);
        }
    }

    /// Ends the session and wakes every waiter.
    pub(crate) fn end(&mut self, socket: &impl AsFd, end: End) {
        if self.end.is_some() {
            return;
        }
        let is_protocol = matches!(end, End::Protocol(_));
        self.end = Some(Box::new(end));
        for (id, slot) in self.outgoing.calls.iter_mut() {
            let sent = Sent::of(&self.connection, id);
            slot.answer.get_or_insert(CallEnd::Lost { sent });
            self.unlocked.to_wake.extend(slot.waker.take());
        }
        self.cancel_served();
        self.incoming.ready.retain(|incoming| incoming.call.is_one_way);
        self.unlocked.to_wake.extend(self.incoming.standby.take());
        self.unlocked.to_wake.extend(self.writing.blocked_waker.clone());
        self.unlocked.to_wake.append(&mut self.writing.written_wakers);
        self.wake_eligible();
        // The session may be kept long after its end; its permits are returned now.
        self.incoming.permits = SessionPermits::default();
        if is_protocol {
            // The peer may still be sending; the reader drains that.
            let _ = socket::finish_writing(socket);
        } else {
            socket::stop(socket);
        }
    }
}

/// Outgoing calls in flight from which on callers wait for a common write.
const MANY_CALLERS: usize = 8;
/// Capacity of the queue of incoming calls that an idle session keeps.
const KEPT_CAPACITY: usize = 4;
/// How long the memory of a large message is kept for the next one.
const KEEP_LARGE_BUFFERS: Duration = Duration::from_secs(1);

//! The mutable state of a session: hands out what arrives, writes what is queued, and wakes every waiter at the end.
//!
//! A thread or task changes it under the lock ([`Session::with`](crate::session::Session::with)) and wakes others after
//! the lock is released.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::os::fd::AsFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, CallTable, Connection, ProtocolError};

use crate::error::Sent;
use crate::limits::inflation::Allowance;
use crate::limits::permits::Permit;
use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket::{self};
use crate::session::call_slot::{CallEnd, Deadlines, Slot};
use crate::session::context::SessionContext;
use crate::session::keepalive::Keepalive;
use crate::session::served_call::{IncomingCall, ServedCall};
use crate::session::wait_queue::Queue;
use crate::telemetry::log::LogClass;

/// The mutable state of a session.
pub(crate) struct State {
    pub(crate) connection: Connection,
    /// Outgoing calls.
    pub(crate) calls: CallTable<Slot>,
    /// Incoming calls that have no answer yet.
    pub(crate) served: CallTable<ServedCall>,
    /// Incoming calls that no handler has begun to serve.
    pub(super) ready: VecDeque<IncomingCall>,
    /// Whether a thread or task reads.
    pub(super) reader: Reader,
    /// The standby: the waker of the thread or task that serves incoming calls. It is woken first if the session has no
    /// leader.
    pub(super) standby: Option<Waker>,
    /// Woken when the socket is full and no thread may be waiting for it.
    pub(super) blocked_waker: Option<Waker>,
    /// Woken when nothing that is queued waits for the socket any longer.
    pub(super) written_wakers: Vec<Waker>,
    /// Woken after the lock is released.
    pub(super) to_wake: Vec<Waker>,
    /// Logged after the lock is released. It says why the session ends, so there is at most one.
    pub(super) log_line: Option<Box<(LogClass, String)>>,
    pub(super) keepalive: Keepalive,
    /// The deadlines of outgoing calls, if a task ends those that are past theirs.
    pub(super) deadlines: Option<Box<Deadlines>>,
    /// Whether the task that drives the session was notified to check its timers.
    #[cfg(feature = "tokio")]
    pub(super) is_notified: bool,
    /// Whether a woken caller may occupy its thread for long.
    #[cfg(feature = "tokio")]
    pub(super) wakes_large: bool,
    /// The receive rate of a message that has begun to arrive, if there is one.
    pub(super) receive_rate: Option<Box<ReceiveRate>>,
    /// Since when the socket has been full.
    pub(super) blocked: Option<Instant>,
    /// Whether the send queue was so long that producers had to wait (backpressure).
    pub(super) is_backpressured: bool,
    /// Whether a flush was left to the task that drives the session, or to a promoted follower.
    pub(super) is_flush_pending: bool,
    /// Whether one of many callers was promoted and has not become the leader yet. Other callers leave both reading and
    /// writing to it: one write sends what many of them queue.
    pub(super) is_leader_promoted: bool,
    /// Whether the leader is waking others, and will write before it reads again.
    pub(super) is_reader_waking: bool,
    /// Whether the connection may own a read buffer.
    pub(super) has_buffer: bool,
    /// Whether the connection reads into the [shared buffer](crate::session::read_buffer) of this thread.
    #[cfg(feature = "tokio")]
    pub(super) has_shared_buffer: bool,
    /// Whether packets in that buffer wait for a permit of the concurrency limit.
    #[cfg(feature = "tokio")]
    pub(super) receive_gate: ReceiveGate,
    /// Whether there may be packets that have not been handed out.
    pub(super) has_undispatched: bool,
    /// How many bytes the last read brought; some of them may not have been handed out.
    pub(super) arrived: usize,
    /// Whether the socket buffers were enlarged for a large message.
    pub(super) has_large_buffers: bool,
    /// Why nothing more can be written.
    pub(super) write_error: Option<Box<End>>,
    pub(super) end: Option<Box<End>>,
    /// Outgoing calls queued at the peer's concurrency limit.
    pub(super) queued: Option<Box<Queue>>,
    /// Whether new subscriptions are refused.
    pub(super) is_unsubscribed: bool,
    /// The permits of a server's limits that the session holds.
    pub(super) permits: SessionPermits,
    /// Bytes that the socket has taken.
    pub(super) bytes_taken: u64,
    /// Since when the answers of this peer exceed its share, and `bytes_taken` at that time.
    pub(super) over_share: Option<(Instant, u64)>,
    /// One-way calls that were dropped, counted and logged.
    pub(super) dropped_one_way: u64,
    /// How much the peer may still make this side inflate.
    pub(super) inflation: Allowance,
}

/// The permits of a server's limits that a session holds.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "a permit counts until it is dropped")]
pub(crate) struct SessionPermits {
    pub(crate) permit: Option<Permit>,
    pub(crate) session: Option<Permit>,
    /// Bytes of requests that have not fully arrived.
    pub(crate) bytes: Option<Permit>,
    /// Bytes of large answers that are queued.
    pub(crate) answers: Option<Permit>,
}

/// Whether packets wait for an incoming call to end when the concurrency limit is reached.
///
/// Short calls end at once, and a one-way call beyond the limit would be dropped needlessly. Longer calls are not
/// waited for.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiveGate {
    Open,
    ClosedUntil(Instant),
    /// The wait is over, and no call has ended since.
    Passed,
}

/// Which kind of reader a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    None,
    Thread,
    /// A task drives the session and always reads for all.
    Task,
}

/// How far a flush got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    /// The socket is full.
    Blocked,
}

/// Why a session ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The session was closed in order.
    Closed,
    /// The connection failed.
    Io(io::ErrorKind, String),
    /// The peer broke a rule.
    Protocol(ProtocolError),
    /// The peer did not answer keepalive pings.
    Silent,
    /// The peer read nothing of what was sent to it.
    Stalled,
}

impl State {
    /// Wakes `waker` after the lock is released.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.to_wake.extend(waker);
    }

    /// Wakes the standby.
    pub(super) fn wake_standby(&mut self) {
        let standby = self.standby.take();
        self.wake(standby);
    }

    /// Queues an incoming call and wakes the standby to serve it.
    pub(super) fn queue_call(&mut self, incoming: IncomingCall) {
        self.ready.push_back(incoming);
        self.wake_standby();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the next thread to arrive becomes the leader.
    pub(super) fn has_no_reader(&self) -> bool {
        self.reader == Reader::None && !self.is_leader_promoted && !self.has_ended()
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_none() && self.write_error.is_none() && !self.connection.is_leaving()
    }

    /// Frees the read buffer of an idle session unless its capacity exceeds `limit`: such a session was busy and may be
    /// again.
    pub(super) fn drop_buffer(&mut self, limit: usize) {
        if self.has_buffer {
            let buffer = self.connection.read_buffer();
            if buffer.is_empty() && buffer.capacity() <= limit {
                *buffer = Vec::new();
                self.has_buffer = false;
            }
        }
    }

    /// Frees the memory that a session needs only while calls are in flight: a server may have many idle sessions.
    pub(super) fn shrink(&mut self) {
        self.drop_buffer(usize::MAX);
        self.connection.shrink();
        if self.ready.capacity() <= KEPT_CAPACITY {
            self.ready = VecDeque::new();
        }
        self.served.shrink();
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
            let waiting = iter::once(&mut self.standby);
            for waker in waiting.chain(self.calls.iter_mut().map(|(_, slot)| &mut slot.waker)) {
                waker.take_if(|waker| waker.will_wake(own));
            }
        }
        self.is_leader_promoted = false;
        if self.reader == Reader::None {
            let mut next = self.standby.take();
            if next.is_none() {
                next = self.calls.iter_mut().find_map(|(_, slot)| slot.waiting());
                self.is_leader_promoted = next.is_some() && self.calls.len() >= MANY_CALLERS;
                // No caller waits for an answer: a queued call reads the answers that free permits.
                next = next.or_else(|| self.queued.as_ref()?.first(own));
            }
            self.to_wake.extend(next);
            if self.is_flush_pending && !self.is_leader_promoted {
                self.flush(context);
            }
        }
    }

    pub(super) fn end_call(&mut self, id: CallId, answer: CallEnd) {
        if let Some(slot) = self.calls.get_mut(id) {
            #[cfg(feature = "tokio")]
            {
                self.wakes_large |= slot.is_large || matches!(answer, CallEnd::Unread(_));
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
        for (id, slot) in self.calls.iter_mut() {
            let sent = Sent::of(&self.connection, id);
            slot.answer.get_or_insert(CallEnd::Lost { sent });
            self.to_wake.extend(slot.waker.take());
        }
        self.cancel_served();
        self.ready.retain(|incoming| incoming.call.is_one_way);
        self.to_wake.extend(self.standby.take());
        self.to_wake.extend(self.blocked_waker.clone());
        self.to_wake.append(&mut self.written_wakers);
        self.wake_eligible();
        // The session may be kept long after its end; its permits are returned now.
        self.permits = SessionPermits::default();
        if is_protocol {
            // The peer may still be sending; the reader drains that.
            let _ = socket::finish_writing(socket);
        } else {
            socket::stop(socket);
        }
    }
}

impl SessionPermits {
    /// Counts the bytes that a connection buffers for requests that have not fully arrived. Returns whether the limit
    /// allows it.
    pub(super) fn recount(&mut self, connection: &Connection) -> bool {
        self.bytes.as_mut().is_none_or(|bytes| bytes.resize(connection.held_bytes()))
    }
}

impl End {
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Io(error.kind(), crate::error::plain(error))
    }
}

/// Outgoing calls in flight from which on callers wait for a common write.
const MANY_CALLERS: usize = 8;
/// Capacity of the queue of incoming calls that an idle session keeps.
const KEPT_CAPACITY: usize = 4;
/// How long the memory of a large message is kept for the next one.
const KEEP_LARGE_BUFFERS: Duration = Duration::from_secs(1);

//! Everything about a session that changes, and what happens to it: what arrives is handed out, what is queued is
//! written, and the end is told to everybody.
//!
//! Whoever changes it has it for itself ([`Session::with`](crate::session::Session::with)), and wakes others when it has let go.

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

/// Everything about a session that changes.
pub(crate) struct State {
    pub(crate) connection: Connection,
    /// Our calls.
    pub(crate) calls: CallTable<Slot>,
    /// The peer's calls that have not been answered.
    pub(crate) serving: CallTable<ServedCall>,
    /// The peer's calls that nobody has begun to serve.
    pub(super) ready: VecDeque<IncomingCall>,
    /// Whether somebody reads.
    pub(super) reader: Reader,
    /// Whoever serves the peer's calls and reads when nobody else does.
    pub(super) standby: Option<Waker>,
    /// Told when the socket takes no more and nobody may be waiting for it.
    pub(super) blocked_waker: Option<Waker>,
    /// Told when nothing that was queued waits for the socket any longer.
    pub(super) written_wakers: Vec<Waker>,
    /// To be woken once the state is let go.
    pub(super) to_wake: Vec<Waker>,
    /// To be written to the log then. It is why the session ends, so there is one.
    pub(super) log_line: Option<Box<(LogClass, String)>>,
    pub(super) keepalive: Keepalive,
    /// Where somebody ends our calls whose time is over.
    pub(super) deadlines: Option<Box<Deadlines>>,
    /// Whether the task that drives the session is to look at the clock now.
    #[cfg(feature = "tokio")]
    pub(super) is_notified: bool,
    /// Whether a caller was woken that may hold its thread for long.
    #[cfg(feature = "tokio")]
    pub(super) wakes_large: bool,
    /// How slowly what has begun to arrive may go on, if something has.
    pub(super) receive_rate: Option<Box<ReceiveRate>>,
    /// Since when the socket takes nothing.
    pub(super) blocked: Option<Instant>,
    /// Whether the queue was so long that producers were told to wait.
    pub(super) is_backpressured: bool,
    /// Whether something was left to be written by the task that drives the session, or by who was told of the seat.
    pub(super) is_flush_pending: bool,
    /// Whether one of many callers was told that the seat is free, and has not come yet. Whoever calls meanwhile leaves both
    /// the seat and the writing to it: what many call at a time goes out with one write.
    pub(super) is_leader_promoted: bool,
    /// Whether whoever reads wakes others now, and writes before it reads on.
    pub(super) is_reader_waking: bool,
    /// Whether there may be a buffer for what is read.
    pub(super) has_buffer: bool,
    /// Whether what is read goes to the [room](crate::session::read_buffer) of this thread.
    #[cfg(feature = "tokio")]
    pub(super) has_shared_buffer: bool,
    /// Whether what is in it waits for a place among the calls.
    #[cfg(feature = "tokio")]
    pub(super) receive_gate: ReceiveGate,
    /// Whether there may be packets that nobody has looked at.
    pub(super) has_undispatched: bool,
    /// How many bytes the last read brought, of which some may not have been looked at.
    pub(super) arrived: usize,
    /// Whether the socket was made to take more at a time, because something large went through it.
    pub(super) has_large_buffers: bool,
    /// Why nothing more can be written.
    pub(super) write_error: Option<Box<End>>,
    pub(super) end: Option<Box<End>>,
    /// Our calls that wait until the peer takes them.
    pub(super) queued: Option<Box<Queue>>,
    /// Whether no subscriptions begin any more.
    pub(super) is_unsubscribed: bool,
    /// What the session holds of a server's limits.
    pub(super) permits: SessionPermits,
    /// Bytes that the peer has taken.
    pub(super) bytes_taken: u64,
    /// Since when answers beyond the session's share wait for the peer, and what it had taken by then.
    pub(super) over_share: Option<(Instant, u64)>,
    /// One-way calls that were dropped and told of.
    pub(super) dropped_one_way: u64,
    /// What the session may still make this side inflate.
    pub(super) inflation: Allowance,
}

/// What a session holds of its server's limits.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "shares count as long as they are held")]
pub(crate) struct SessionPermits {
    pub(crate) permit: Option<Permit>,
    pub(crate) session: Option<Permit>,
    /// Bytes of requests that have not fully arrived.
    pub(crate) bytes: Option<Permit>,
    /// Bytes of large answers that are queued.
    pub(crate) answers: Option<Permit>,
}

/// Whether packets wait until a call of the peer has ended, where as many are in flight as are taken. Calls that take no time
/// end at once, and one that wants no answer would be dropped for nothing. Others are not waited for.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiveGate {
    Open,
    ClosedUntil(Instant),
    /// That was waited for, and none has ended since.
    Passed,
}

/// Who reads a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    None,
    Thread,
    /// A task reads for all, always.
    Task,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    /// The socket takes no more for now.
    Blocked,
}

/// Why a session is over.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// In an orderly way.
    Closed,
    /// The connection failed.
    Io(io::ErrorKind, String),
    /// The peer broke a rule.
    Protocol(ProtocolError),
    /// The peer gave no sign of life.
    Silent,
    /// The peer took nothing of what was written to it.
    Stalled,
}

impl State {
    /// Wakes `waker` once the state is let go.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.to_wake.extend(waker);
    }

    /// Wakes whoever serves the peer's calls and reads when nobody else does.
    pub(super) fn wake_standby(&mut self) {
        let standby = self.standby.take();
        self.wake(standby);
    }

    /// Leaves a call of the peer to be served by whoever does that.
    pub(super) fn queue_call(&mut self, work: IncomingCall) {
        self.ready.push_back(work);
        self.wake_standby();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the next who comes reads.
    pub(super) fn has_no_reader(&self) -> bool {
        self.reader == Reader::None && !self.is_leader_promoted && !self.has_ended()
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_none() && self.write_error.is_none() && !self.connection.is_leaving()
    }

    /// A session that waits holds no buffer, unless it is larger than `limit`: then it was busy, and may be again.
    pub(super) fn drop_buffer(&mut self, limit: usize) {
        if self.has_buffer {
            let buffer = self.connection.read_buffer();
            if buffer.is_empty() && buffer.capacity() <= limit {
                *buffer = Vec::new();
                self.has_buffer = false;
            }
        }
    }

    /// Gives up the memory that a session needs only while there are calls. Many of them may be open and do nothing.
    pub(super) fn shrink(&mut self) {
        self.drop_buffer(usize::MAX);
        self.connection.shrink();
        if self.ready.capacity() <= KEPT_CAPACITY {
            self.ready = VecDeque::new();
        }
        self.serving.shrink();
    }

    /// Gives up the memory of large messages some time after the last of them; tells when that will be.
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

    /// `own` is the waker of somebody who does not wait any longer. It may still stand here, with a call that is about to
    /// be given up or a stream that is read later: to wake it would be to wake nobody.
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
                // If nobody waits for an answer, the answers that make room are read by who waits for that.
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

    /// Ends the session: everybody who waits on it hears of it.
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
        self.ready.retain(|work| work.call.is_one_way);
        self.to_wake.extend(self.standby.take());
        self.to_wake.extend(self.blocked_waker.clone());
        self.to_wake.append(&mut self.written_wakers);
        self.wake_eligible();
        // Somebody may keep the session, which is none any more.
        self.permits = SessionPermits::default();
        if is_protocol {
            // The peer may still be sending; whoever reads drains that.
            let _ = socket::finish_writing(socket);
        } else {
            socket::stop(socket);
        }
    }
}

impl SessionPermits {
    /// Counts what a connection holds of requests that have not fully arrived. Tells whether the limit allows that.
    pub(super) fn recount(&mut self, connection: &Connection) -> bool {
        self.bytes.as_mut().is_none_or(|bytes| bytes.resize(connection.held_bytes()))
    }
}

impl End {
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Io(error.kind(), crate::error::plain(error))
    }
}

/// Calls in flight at a time from which on they wait for each other.
const MANY_CALLERS: usize = 8;
/// Calls of a session in which little happens: a table for more is kept.
const KEPT_CAPACITY: usize = 4;
/// How long the memory of a large message is kept for the next one.
const KEEP_LARGE_BUFFERS: Duration = Duration::from_secs(1);

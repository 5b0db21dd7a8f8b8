//! Everything about a session that changes, and what happens to it: what arrives is handed out, what is queued is
//! written, and the end is told to everybody.
//!
//! Whoever changes it has it for itself ([`Link::with`]), and wakes others when it has let go.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, CallTable, Connection, Event, Item, ProtocolError};

use crate::config::cores::cores;
use crate::error::Sent;
use crate::limits::inflation::Allowance;
use crate::limits::permits::Permit;
use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket::{self, Read};
use crate::service::call::ReceivedRequest;
use crate::session::concurrency_limit::Queue;
use crate::session::incoming_calls::{IncomingCall, ServedCall};
use crate::session::keepalive::Keepalive;
use crate::session::outgoing_calls::{CallEnd, Deadlines, Slot};
use crate::session::session::Session;
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

    /// Takes note that `count` bytes have arrived, and whether they leave something that is not whole: it holds memory,
    /// so it must go on at the pace of any request.
    fn update_receive_rate(&mut self, session: &Session, count: usize, now: Instant) {
        let config = &session.admission.config;
        if !self.connection.is_receiving() || session.admission.is_client {
            self.receive_rate = None;
        } else if let Some(pace) = &mut self.receive_rate {
            pace.arrived(now, count, true);
        } else {
            let mut pace = ReceiveRate::new(now, config.header_timeout, config.min_rate);
            pace.arrived(now, 0, true);
            self.receive_rate = Some(Box::new(pace));
        }
    }

    /// `own` is the waker of somebody who does not wait any longer. It may still stand here, with a call that is about to
    /// be given up or a stream that is read later: to wake it would be to wake nobody.
    pub(super) fn promote_follower(&mut self, session: &Session, own: Option<&Waker>) {
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
                self.flush(session);
            }
        }
    }

    /// The buffer to read into, to be [given back](Self::give_back).
    pub(super) fn lend_buffer(&mut self) -> Vec<u8> {
        self.has_buffer = true;
        self.connection.take_read_buffer()
    }

    /// Takes a buffer back that was lent.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.connection.put_read_buffer(buffer);
    }

    /// Whoever reads does so no longer.
    pub(super) fn clear_reader(&mut self) {
        if self.reader == Reader::Thread {
            self.reader = Reader::None;
        }
    }

    /// Takes in what was read, which came at `now`. Tells whether there is [more](Self::take_more) of it.
    pub(super) fn received(&mut self, session: &Arc<Session>, read: io::Result<Read>, now: Instant) -> bool {
        if self.end.is_some() {
            return false;
        }
        match read {
            Ok(Read::Bytes(count)) => {
                self.note_bytes(session, count, now);
                self.connection.appended();
                self.arrived = count;
                return self.receive_more(session, now);
            }
            Ok(Read::End) => {
                self.connection.receive_end();
                while self.dispatch(session) {}
            }
            Ok(Read::Nothing) => {}
            Err(error) => self.end(session.socket(), End::io(&error)),
        }
        false
    }

    /// Takes in the next portion of what was read. Tells whether there is more.
    pub(super) fn receive_more(&mut self, session: &Arc<Session>, now: Instant) -> bool {
        let is_more = self.dispatch(session);
        if !is_more {
            self.check_receive_rate(session, self.arrived, now);
        }
        is_more
    }

    /// Takes note that `count` bytes have come.
    pub(super) fn note_bytes(&mut self, session: &Session, count: usize, now: Instant) {
        self.keepalive.note_received(now);
        session.admission.stats.received(count);
    }

    /// Judges how `count` bytes have come, all of which have been looked at.
    pub(super) fn check_receive_rate(&mut self, session: &Session, count: usize, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.update_receive_rate(session, count, now);
        if self.keepalive.is_flooded(now, self.connection.pings()) {
            self.connection.goodbye("too many pings");
            self.flush(session);
            return self.end(session.socket(), End::Closed);
        }
        // What is too much for the server is taken from who sends the largest request here.
        while !self.permits.recount(&self.connection) && self.connection.shed() {}
    }

    /// Hands out what has happened, or a portion of it. Tells whether there may be more. While calls that nobody has begun
    /// take all places, what comes behind them waits: they may be quick, and a one-way call beyond the limit would be
    /// dropped.
    pub(super) fn dispatch(&mut self, session: &Arc<Session>) -> bool {
        for _ in 0..EVENTS_PER_LOCK {
            self.has_undispatched = self.is_full_of_ready();
            if self.has_undispatched || !self.dispatch_one(session) {
                self.wake_eligible();
                return false;
            }
        }
        self.has_undispatched = true;
        true
    }

    /// The same for a thread that is about to read more, and serves no calls.
    pub(super) fn dispatch_all(&mut self, session: &Arc<Session>) {
        if std::mem::take(&mut self.has_undispatched) {
            while self.dispatch_one(session) {}
            self.wake_eligible();
        }
    }

    fn is_full_of_ready(&self) -> bool {
        !self.ready.is_empty() && self.connection.is_full()
    }

    fn dispatch_one(&mut self, session: &Arc<Session>) -> bool {
        let Some(event) = self.next_event() else {
            self.count_dropped(session);
            return false;
        };
        if let Some(work) = self.handle_event(session, event) {
            self.queue_call(work);
        }
        true
    }

    /// Tells of one-way calls that the limit of the session kept out: nobody else does.
    pub(super) fn count_dropped(&mut self, session: &Session) {
        let dropped = self.connection.dropped_calls();
        if dropped > self.dropped_one_way {
            session.drop_one_way(dropped - self.dropped_one_way);
            self.dropped_one_way = dropped;
        }
    }

    /// The next thing that happened, as long as the session goes on.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        let event = self.connection.pull_event();
        let arrived = match &event {
            Some(Event::Request { request, .. }) => request.size(),
            Some(Event::Unread { request, .. }) => request.arrived(),
            _ => 0,
        };
        if arrived >= LARGE {
            // It is from now on held by its call.
            self.permits.recount(&self.connection);
        }
        event
    }

    /// Hands out what has happened, but for a call that is to be served.
    pub(super) fn handle_event(&mut self, session: &Arc<Session>, event: Event) -> Option<IncomingCall> {
        match event {
            Event::Request { id, request } => {
                self.keepalive.note_used();
                return self.admit(session, id, ReceivedRequest::Read(request));
            }
            Event::Unread { id, request } => {
                self.keepalive.note_used();
                return self.admit(session, id, ReceivedRequest::Unread(request));
            }
            Event::Response { id, response } => {
                self.keepalive.note_used();
                self.end_call(id, CallEnd::Response(response));
            }
            Event::UnreadResponse { id, response } => {
                self.keepalive.note_used();
                self.end_call(id, CallEnd::Unread(response));
            }
            Event::Failed { id, error } => self.end_call(id, CallEnd::Failed(error)),
            Event::NotRun { id } => self.end_call(id, CallEnd::NotRun),
            Event::Item { id, item } => self.deliver(id, ReceivedRequest::Read(item)),
            Event::UnreadItem { id, item } => self.deliver(id, ReceivedRequest::Unread(item)),
            Event::Cancelled { id } => self.cancelled(id),
            Event::Credit { id } => self.wake_sender(id),
            Event::Goodbye { .. } => {
                self.wake_standby();
            }
            Event::Closed { error } => {
                if let Some(error) = &error {
                    self.log_line = Some(Box::new((LogClass::Protocol, error.to_string())));
                    // The end is not that of a session in which nothing is left to do.
                    self.write(session);
                }
                let broken = self.write_error.take().map(|end| *end);
                let end = error.map(End::Protocol).or(broken).unwrap_or(End::Closed);
                self.end(session.socket(), end);
            }
            _ => {}
        }
        None
    }

    pub(super) fn deliver(&mut self, id: CallId, item: ReceivedRequest<Item>) {
        if let Some(slot) = self.calls.get_mut(id) {
            #[cfg(feature = "tokio")]
            {
                self.wakes_large |= matches!(item, ReceivedRequest::Unread(_));
            }
            slot.items.push_back(item);
            let waker = slot.waiting();
            self.wake(waker);
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
        self.ready.retain(|work| work.call.is_one_way());
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

/// Whether this process may run on more than one core.
pub(super) fn has_cores() -> bool {
    static CORES: OnceLock<bool> = OnceLock::new();
    *CORES.get_or_init(|| cores().is_some_and(|cores| cores > 1))
}

/// What is handed out at a time, before others who wait for the session have their turn.
pub(super) const EVENTS_PER_LOCK: usize = 256;
/// A request that counts as soon as it has arrived.
const LARGE: usize = 4 * 1024;
/// Calls in flight at a time from which on they wait for each other.
const MANY_CALLERS: usize = 8;
/// Calls of a session in which little happens: a table for more is kept.
const KEPT_CAPACITY: usize = 4;
/// How long the memory of a large message is kept for the next one.
const KEEP_LARGE_BUFFERS: Duration = Duration::from_secs(1);

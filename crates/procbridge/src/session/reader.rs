//! The receiving half of a session: takes in what arrives and hands it out.

use std::io;
use std::time::Instant;

use procbridge_proto::{CallId, Event, Item};

use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket::Read;
use crate::session::call_slot::CallEnd;
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::reading::Reader;
use crate::session::received::Received;
use crate::session::served_call::IncomingCall;
use crate::session::state::State;
use crate::telemetry::log::LogClass;

impl State {
    /// Lends the buffer to read into, to be [given back](Self::give_back).
    pub(super) fn lend_buffer(&mut self) -> Vec<u8> {
        self.reading.has_buffer = true;
        self.connection.take_read_buffer()
    }

    /// Takes back a lent buffer.
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.connection.put_read_buffer(buffer);
    }

    /// Removes the leader, if there is one.
    pub(super) fn clear_reader(&mut self) {
        if self.reading.reader == Reader::Thread {
            self.reading.reader = Reader::None;
        }
    }

    /// Takes in what was read at `now`. Returns whether there is [more](Self::receive_more) of it.
    pub(super) fn received(
        &mut self,
        context: &SessionContext,
        read: io::Result<Read>,
        now: Instant,
    ) -> bool {
        if self.end.is_some() {
            return false;
        }
        match read {
            Ok(Read::Bytes(count)) => {
                self.note_bytes(context, count, now);
                self.connection.appended();
                self.reading.arrived = count;
                return self.receive_more(context, now);
            }
            Ok(Read::End) => {
                self.connection.receive_end();
                while self.dispatch(context) {}
            }
            Ok(Read::Nothing) => {}
            Err(error) => self.end(context.socket(), End::io(&error)),
        }
        false
    }

    /// Hands out the next portion of what was read. Returns whether there is more.
    pub(super) fn receive_more(&mut self, context: &SessionContext, now: Instant) -> bool {
        let is_more = self.dispatch(context);
        if !is_more {
            self.check_receive_rate(context, self.reading.arrived, now);
        }
        is_more
    }

    /// Notes that `count` bytes have arrived.
    pub(super) fn note_bytes(&mut self, context: &SessionContext, count: usize, now: Instant) {
        self.keepalive.note_received(now);
        context.admission.stats.received(count);
    }

    /// Judges the receive rate and the number of pings after `count` bytes, all of which have been handed out.
    pub(super) fn check_receive_rate(&mut self, context: &SessionContext, count: usize, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.update_receive_rate(context, count, now);
        if self.keepalive.is_flooded(now, self.connection.pings()) {
            self.connection.goodbye("too many pings");
            self.flush(context);
            return self.end(context.socket(), End::Closed);
        }
        // Beyond the server's limit, the largest unfinished request of this session is dropped.
        while !self.incoming.permits.recount(&self.connection) && self.connection.shed() {}
    }

    /// Hands out a portion of the events, and returns whether there may be more. Packets stay queued while unserved
    /// calls use up the concurrency limit. Those calls may be quick, and a one-way call beyond the limit would be dropped.
    pub(super) fn dispatch(&mut self, context: &SessionContext) -> bool {
        for _ in 0..EVENTS_PER_LOCK {
            self.reading.has_undispatched = self.is_full_of_ready();
            if self.reading.has_undispatched || !self.dispatch_one(context) {
                self.wake_eligible();
                return false;
            }
        }
        self.reading.has_undispatched = true;
        true
    }

    /// Hands out all events, for a thread that is about to read more and serves no calls.
    pub(super) fn dispatch_all(&mut self, context: &SessionContext) {
        if std::mem::take(&mut self.reading.has_undispatched) {
            while self.dispatch_one(context) {}
            self.wake_eligible();
        }
    }

    fn is_full_of_ready(&self) -> bool {
        !self.incoming.ready.is_empty() && self.connection.is_full()
    }

    fn dispatch_one(&mut self, context: &SessionContext) -> bool {
        let Some(event) = self.next_event() else {
            self.count_dropped(context);
            return false;
        };
        if let Some(incoming) = self.handle_event(context, event) {
            self.queue_call(incoming);
        }
        true
    }

    /// Counts and logs one-way calls that the session's concurrency limit dropped: their callers get no answer.
    pub(super) fn count_dropped(&mut self, context: &SessionContext) {
        let dropped = self.connection.dropped_calls();
        if dropped > self.incoming.dropped_one_way {
            context.drop_one_way(dropped - self.incoming.dropped_one_way);
            self.incoming.dropped_one_way = dropped;
        }
    }

    /// Returns the next event, unless the session has ended.
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
            // The call counts the request from here on.
            self.incoming.permits.recount(&self.connection);
        }
        event
    }

    /// Hands out an event; returns an incoming call, which is to be served.
    pub(super) fn handle_event(&mut self, context: &SessionContext, event: Event) -> Option<IncomingCall> {
        match event {
            Event::Request { id, request } => {
                self.keepalive.note_used();
                return self.admit(context, id, Received::Read(request));
            }
            Event::Unread { id, request } => {
                self.keepalive.note_used();
                return self.admit(context, id, Received::Unread(request));
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
            Event::Item { id, item } => self.deliver(id, Received::Read(item)),
            Event::UnreadItem { id, item } => self.deliver(id, Received::Unread(item)),
            Event::Cancelled { id } => self.cancelled(id),
            Event::Credit { id } => self.wake_sender(id),
            Event::Goodbye { .. } => {
                self.wake_standby();
            }
            Event::Closed { error } => {
                if let Some(error) = &error {
                    self.unlocked.log_line = Some(Box::new((LogClass::Protocol, error.to_string())));
                    // Flush before the end: the peer is to read why the session ended.
                    self.write(context);
                }
                let broken = self.writing.write_error.take().map(|end| *end);
                let end = error.map(End::Protocol).or(broken).unwrap_or(End::Closed);
                self.end(context.socket(), end);
            }
            _ => {}
        }
        None
    }

    pub(super) fn deliver(&mut self, id: CallId, item: Received<Item>) {
        if let Some(slot) = self.outgoing.calls.get_mut(id) {
            #[cfg(feature = "tokio")]
            {
                self.unlocked.wakes_large |= matches!(item, Received::Unread(_));
            }
            slot.items.push_back(item);
            let waker = slot.waiting();
            self.wake(waker);
        }
    }

    /// Judges the receive rate if `count` bytes leave a message unfinished: it occupies memory, so it must arrive as
    /// fast as any request.
    fn update_receive_rate(&mut self, context: &SessionContext, count: usize, now: Instant) {
        let config = &context.admission.config;
        if !self.connection.is_receiving() || context.admission.is_client {
            self.reading.receive_rate = None;
        } else if let Some(rate) = &mut self.reading.receive_rate {
            rate.arrived(now, count, true);
        } else {
            let mut rate = ReceiveRate::new(now, config.header_timeout, config.min_body_rate);
            rate.arrived(now, 0, true);
            self.reading.receive_rate = Some(Box::new(rate));
        }
    }
}

/// Events handed out under one lock, before other waiters for the session get it.
pub(super) const EVENTS_PER_LOCK: usize = 256;
/// Size from which on a request counts as soon as it has arrived.
const LARGE: usize = 4 * 1024;

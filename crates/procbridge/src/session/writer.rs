//! The sending half of a session: when and how far it is flushed, and which waiters a flush wakes.

use std::task::{Poll, Waker};

use crate::config::cores::has_several_cores;
use crate::limits::permits::Permit;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::reading::Reader;
use crate::session::session::Session;
use crate::session::state::State;
use crate::session::writing::Flushed;

impl State {
    /// Flushes what is queued soon: the task that drives the session does it, with one write for all that is queued
    /// until then. It is flushed at once if that is [enough](Self::is_enough). So it is if no task drives the session and
    /// no leader is about to write before it reads.
    pub(crate) fn flush_soon(&mut self, context: &SessionContext) {
        if self.reading.reader == Reader::Task && !self.is_enough() {
            self.writing.is_flush_pending = true;
            self.wake_standby();
        } else if self.reading.is_leader_promoted || self.reading.is_reader_waking {
            self.writing.is_flush_pending = true;
        } else {
            self.flush(context);
        }
    }

    /// Whether so much is queued for a task that the peer should begin to read at once, while this side goes on. That
    /// pays only where both can run at the same time.
    pub(super) fn is_enough(&self) -> bool {
        self.reading.reader == Reader::Task && self.connection.queued() >= FLUSH_AT && has_several_cores()
    }

    /// Writes what is queued, as far as the socket takes it. Ends a session that is leaving and has nothing left to do.
    pub(crate) fn flush(&mut self, context: &SessionContext) -> Flushed {
        let flushed = self.write(context);
        let is_written = flushed == Flushed::All && self.writing.write_error.is_none();
        if is_written && self.connection.is_leaving() && self.connection.is_finished() {
            self.end(context.socket(), End::Closed);
        }
        flushed
    }

    /// Does the same, without ending the session.
    pub(super) fn write(&mut self, context: &SessionContext) -> Flushed {
        let flushed = self.write_all(context);
        self.free_space();
        flushed
    }

    /// Returns the space of large answers as far as the socket has taken them.
    fn free_space(&mut self) {
        let Some(answers) = &mut self.incoming.permits.answers else { return };
        let queued = self.connection.queued();
        if queued == 0 {
            self.incoming.permits.answers = None;
        } else if queued < answers.units() {
            answers.resize(queued);
        }
    }

    /// Returns how many queued bytes no space permit covers.
    pub(super) fn queued_beyond_space(&self) -> usize {
        let space = self.incoming.permits.answers.as_ref().map_or(0, Permit::units);
        self.connection.queued().saturating_sub(space)
    }

    fn write_all(&mut self, context: &SessionContext) -> Flushed {
        self.writing.is_flush_pending = false;
        if self.end.is_some() {
            return Flushed::All;
        }
        if self.writing.write_error.is_some() {
            // A peer that can read nothing and goes on calling must not queue answers without bound.
            if self.connection.queued() > BACKPRESSURE_AT {
                let end = self.writing.write_error.take().map_or(End::Closed, |end| *end);
                self.end(context.socket(), end);
            }
            return Flushed::All;
        }
        let mut written = 0;
        loop {
            // Check before the write, which may have nothing to send: a cancelled message frees space as well.
            if self.writing.is_backpressured && self.connection.queued() <= BACKPRESSURE_AT {
                self.writing.is_backpressured = false;
                self.wake_all_senders();
            }
            let bytes = self.connection.transmit();
            if bytes.is_empty() {
                self.writing.blocked = None;
                self.unlocked.to_wake.append(&mut self.writing.written_wakers);
                break;
            }
            if bytes.len() >= LARGE_WRITE && !self.writing.has_large_buffers {
                self.writing.has_large_buffers = true;
                if matches!(context.peer, Peer::Unix(_)) {
                    socket::enlarge_buffers(context.socket());
                }
            }
            if written >= WRITE_PER_LOCK && self.reading.reader == Reader::Task {
                // The peer reads as fast as this side writes. Other waiters get the lock first; the task goes on later.
                self.writing.is_flush_pending = true;
                self.wake_standby();
                break;
            }
            match socket::sent(socket::send(context.socket(), bytes)) {
                Ok(0) => {
                    self.writing.blocked.get_or_insert_with(context.admission.clock);
                    let (alarm, standby) = (self.writing.blocked_waker.clone(), self.incoming.standby.take());
                    self.unlocked.to_wake.extend(alarm.into_iter().chain(standby));
                    return Flushed::Blocked;
                }
                Ok(count) => {
                    written += count;
                    context.admission.stats.sent(count);
                    self.writing.bytes_taken = self.writing.bytes_taken.saturating_add(count as u64);
                    self.connection.transmitted(count);
                    if self.writing.blocked.is_some() {
                        // The socket has space again because the peer has read. That may be the only sign of life: its
                        // PONG may be queued behind other data, or wait because this side does not read.
                        let now = context.admission.now();
                        self.writing.blocked = Some(now);
                        self.keepalive.note_received(now);
                    }
                }
                Err(error) => {
                    // Input of the peer may still be unread, such as a GOODBYE. The reader finds the end of the stream
                    // behind it.
                    self.writing.write_error = Some(Box::new(End::io(&error)));
                    self.writing.blocked = None;
                    self.unlocked.to_wake.append(&mut self.writing.written_wakers);
                    // No call begins here any more: queued calls, and a client that keeps a session open, go elsewhere.
                    self.wake_standby();
                    self.wake_eligible();
                    return Flushed::All;
                }
            }
        }
        Flushed::All
    }

    /// Whether reading is paused because the peer does not read (backpressure): its calls would only add queued
    /// answers.
    pub(super) fn is_paused(&self, context: &SessionContext) -> bool {
        self.writing.blocked.is_some()
            && !context.admission.is_client
            && self.queued_beyond_space() > PAUSE_READING_AT
    }

    /// Whether producers of items and large answers should wait until the peer has read more (backpressure).
    pub(crate) fn is_backpressured(&mut self) -> bool {
        let is_full = self.connection.queued() > BACKPRESSURE_AT;
        self.writing.is_backpressured |= is_full;
        is_full
    }
}

impl Session {
    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&self) -> Flushed {
        self.with(|state| state.flush(self))
    }

    /// Returns `Ready` when nothing that was queued waits for the socket any longer; false if the session ended first.
    pub(crate) fn poll_written(&self, waker: &Waker) -> Poll<bool> {
        self.with(|state| {
            if state.writing.is_flush_pending {
                state.flush(self);
            }
            if state.writing.write_error.is_some() {
                return Poll::Ready(false);
            }
            if let Some(end) = &state.end {
                // The session may have ended with bytes still queued.
                let is_written = matches!(**end, End::Closed) && state.writing.blocked.is_none();
                return Poll::Ready(is_written && state.connection.transmit().is_empty());
            }
            if state.writing.blocked.is_none() && !state.writing.is_flush_pending {
                return Poll::Ready(true);
            }
            if !state.writing.written_wakers.iter().any(|known| known.will_wake(waker)) {
                state.writing.written_wakers.push(waker.clone());
            }
            Poll::Pending
        })
    }
}

/// Bytes that are worth a write of their own: some sixteen small packets.
const FLUSH_AT: usize = 1200;
/// Queued bytes from which on items and large answers wait.
const BACKPRESSURE_AT: usize = 1024 * 1024;
/// Bytes written under one lock, however much the socket takes.
const WRITE_PER_LOCK: usize = 256 * 1024;
/// Size from which on one write is large.
const LARGE_WRITE: usize = 32 * 1024;
/// Queued bytes of answers from which on nothing more is read from the peer. Large answers do not count: their space
/// permits bound them.
const PAUSE_READING_AT: usize = 1024 * 1024;

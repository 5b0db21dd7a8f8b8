//! What a session has queued is written: when, how far, and who hears of it.

use std::task::{Poll, Waker};

use crate::config::cores::has_several_cores;
use crate::limits::permits::Permit;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::context::SessionContext;
use crate::session::session::Session;
use crate::session::state::{End, Flushed, Reader, State};

impl State {
    /// Has what is queued written soon. With a task that drives the session that is its next turn: whatever others queue
    /// until then goes out with the same write, unless that is [enough](Self::is_enough) by itself. Without one it is now,
    /// unless somebody is about to read, and writes before.
    pub(crate) fn flush_soon(&mut self, context: &SessionContext) {
        if self.reader == Reader::Task && !self.is_enough() {
            self.is_flush_pending = true;
            self.wake_standby();
        } else if self.is_leader_promoted || self.is_reader_waking {
            self.is_flush_pending = true;
        } else {
            self.flush(context);
        }
    }

    /// Whether so much is queued for a task to write that the peer should begin with it at once, while this side goes on.
    /// That is of use only where both can run at a time.
    pub(super) fn is_enough(&self) -> bool {
        self.reader == Reader::Task && self.connection.queued() >= FLUSH_AT && has_several_cores()
    }

    /// Writes what is queued, as far as the socket takes it. That may have been the last that was to be done here.
    pub(crate) fn flush(&mut self, context: &SessionContext) -> Flushed {
        let flushed = self.write(context);
        let is_written = flushed == Flushed::All && self.write_error.is_none();
        if is_written && self.connection.is_leaving() && self.connection.is_finished() {
            self.end(context.socket(), End::Closed);
        }
        flushed
    }

    /// The same, without an end to the session if that was the last.
    pub(super) fn write(&mut self, context: &SessionContext) -> Flushed {
        let flushed = self.write_all(context);
        self.free_space();
        flushed
    }

    /// Gives back the space of large answers as far as the peer has taken them.
    fn free_space(&mut self) {
        let Some(answers) = &mut self.permits.answers else { return };
        let queued = self.connection.queued();
        if queued == 0 {
            self.permits.answers = None;
        } else if queued < answers.units() {
            answers.resize(queued);
        }
    }

    /// Returns the bytes that are queued beyond what has taken space.
    pub(super) fn queued_beyond_space(&self) -> usize {
        let space = self.permits.answers.as_ref().map_or(0, Permit::units);
        self.connection.queued().saturating_sub(space)
    }

    fn write_all(&mut self, context: &SessionContext) -> Flushed {
        self.is_flush_pending = false;
        if self.end.is_some() {
            return Flushed::All;
        }
        if self.write_error.is_some() {
            // A peer that can read nothing and still calls is not served without bound.
            if self.connection.queued() > BACKPRESSURE_AT {
                let end = self.write_error.take().map_or(End::Closed, |end| *end);
                self.end(context.socket(), end);
            }
            return Flushed::All;
        }
        let mut written = 0;
        loop {
            // Before the rest is written, which may be nothing: what was given up makes room as well.
            if self.is_backpressured && self.connection.queued() <= BACKPRESSURE_AT {
                self.is_backpressured = false;
                self.wake_all_senders();
            }
            let bytes = self.connection.transmit();
            if bytes.is_empty() {
                self.blocked = None;
                self.to_wake.append(&mut self.written_wakers);
                break;
            }
            if bytes.len() >= LARGE_WRITE && !self.has_large_buffers {
                self.has_large_buffers = true;
                if matches!(context.peer, Peer::Unix(_)) {
                    socket::enlarge_buffers(context.socket());
                }
            }
            if written >= WRITE_PER_LOCK && self.reader == Reader::Task {
                // The peer reads as fast as this writes. Others who wait for the session go first; its task goes on.
                self.is_flush_pending = true;
                self.wake_standby();
                break;
            }
            match socket::sent(socket::send(context.socket(), bytes)) {
                Ok(0) => {
                    self.blocked.get_or_insert_with(context.admission.clock);
                    let (alarm, standby) = (self.blocked_waker.clone(), self.standby.take());
                    self.to_wake.extend(alarm.into_iter().chain(standby));
                    return Flushed::Blocked;
                }
                Ok(count) => {
                    written += count;
                    context.admission.stats.sent(count);
                    self.bytes_taken = self.bytes_taken.saturating_add(count as u64);
                    self.connection.transmitted(count);
                    if self.blocked.is_some() {
                        // The socket has room again because the peer has read. That is a sign of life, and may be the
                        // only one: its PONG may wait behind what is written, or not be read for what is not.
                        let now = context.admission.now();
                        self.blocked = Some(now);
                        self.keepalive.note_received(now);
                    }
                }
                Err(error) => {
                    // What the peer said before may still be there to be read, a GOODBYE above all. Whoever reads finds
                    // the end behind it.
                    self.write_error = Some(Box::new(End::io(&error)));
                    self.blocked = None;
                    self.to_wake.append(&mut self.written_wakers);
                    // No call begins here any more: those who wait to call go elsewhere, and who keeps a session looks for one.
                    self.wake_standby();
                    self.wake_eligible();
                    return Flushed::All;
                }
            }
        }
        Flushed::All
    }

    /// Whether nothing is read for now, because the peer does not read: what it would be answered would only be queued.
    pub(super) fn is_paused(&self, context: &SessionContext) -> bool {
        self.blocked.is_some()
            && !context.admission.is_client
            && self.queued_beyond_space() > PAUSE_READING_AT
    }

    /// Whether producers of items, and of large answers, should wait until the peer has read more.
    pub(crate) fn is_backpressured(&mut self) -> bool {
        let crowded = self.connection.queued() > BACKPRESSURE_AT;
        self.is_backpressured |= crowded;
        crowded
    }
}

impl Session {
    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&self) -> Flushed {
        self.with(|state| state.flush(self))
    }

    /// Ready when nothing that was queued waits for the socket any longer; false if the session ended first.
    pub(crate) fn poll_written(&self, waker: &Waker) -> Poll<bool> {
        self.with(|state| {
            if state.is_flush_pending {
                state.flush(self);
            }
            if state.write_error.is_some() {
                return Poll::Ready(false);
            }
            if let Some(end) = &state.end {
                // What was queued may be gone with the session.
                let is_written = matches!(**end, End::Closed) && state.blocked.is_none();
                return Poll::Ready(is_written && state.connection.transmit().is_empty());
            }
            if state.blocked.is_none() && !state.is_flush_pending {
                return Poll::Ready(true);
            }
            if !state.written_wakers.iter().any(|known| known.will_wake(waker)) {
                state.written_wakers.push(waker.clone());
            }
            Poll::Pending
        })
    }
}

/// Bytes that are worth a write of their own: some sixteen small packets.
const FLUSH_AT: usize = 1200;
/// Items and large answers wait when this many bytes are queued.
const BACKPRESSURE_AT: usize = 1024 * 1024;
/// Bytes that are written at a time, however much the socket takes.
const WRITE_PER_LOCK: usize = 256 * 1024;
/// So much written at once is large.
const LARGE_WRITE: usize = 32 * 1024;
/// Nothing more is read from a peer that has this many bytes of answers to read, besides the large ones: those are bounded by
/// the space that they take.
const PAUSE_READING_AT: usize = 1024 * 1024;

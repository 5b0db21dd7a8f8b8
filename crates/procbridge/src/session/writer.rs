//! What a session has queued is written: when, how far, and who hears of it.

use crate::limits::permits::Share;
use crate::net::socket;
use crate::peer::Peer;
use crate::session::session::Link;
use crate::session::state::{End, Seat, State, has_cores};

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    /// The socket takes no more for now.
    Blocked,
}

impl State {
    /// Has what is queued written soon. With a task that drives the session that is its next turn: whatever others queue
    /// until then goes out with the same write, unless that is [enough](Self::is_enough) by itself. Without one it is now,
    /// unless somebody is about to read, and writes before.
    pub(crate) fn flush_soon(&mut self, link: &Link) {
        if self.seat == Seat::Driven && !self.is_enough() {
            self.is_left = true;
            self.wake_attendant();
        } else if self.is_offered || self.is_awaited {
            self.is_left = true;
        } else {
            self.flush(link);
        }
    }

    /// Whether so much is queued for a task to write that the peer should begin with it at once, while this side goes on.
    /// That is of use only where both can run at a time.
    pub(super) fn is_enough(&self) -> bool {
        self.seat == Seat::Driven && self.connection.queued() >= ENOUGH && has_cores()
    }

    /// Writes what is queued, as far as the socket takes it. That may have been the last that was to be done here.
    pub(crate) fn flush(&mut self, link: &Link) -> Flushed {
        let flushed = self.write(link);
        let is_written = flushed == Flushed::All && self.broken.is_none();
        if is_written && self.connection.is_leaving() && self.connection.is_finished() {
            self.end(link.socket(), End::Closed);
        }
        flushed
    }

    /// The same, without an end to the session if that was the last.
    pub(super) fn write(&mut self, link: &Link) -> Flushed {
        let flushed = self.write_all(link);
        self.free_space();
        flushed
    }

    /// Gives back the space of large answers as far as the peer has taken them.
    fn free_space(&mut self) {
        let Some(answers) = &mut self.hold.answers else { return };
        let queued = self.connection.queued();
        if queued == 0 {
            self.hold.answers = None;
        } else if queued < answers.units() {
            answers.resize(queued);
        }
    }

    /// Returns the bytes that are queued beyond what has taken space.
    pub(super) fn queued_beyond_space(&self) -> usize {
        let space = self.hold.answers.as_ref().map_or(0, Share::units);
        self.connection.queued().saturating_sub(space)
    }

    fn write_all(&mut self, link: &Link) -> Flushed {
        self.is_left = false;
        if self.end.is_some() {
            return Flushed::All;
        }
        if self.broken.is_some() {
            // A peer that can read nothing and still calls is not served without bound.
            if self.connection.queued() > CROWDED {
                let end = self.broken.take().map_or(End::Closed, |end| *end);
                self.end(link.socket(), end);
            }
            return Flushed::All;
        }
        let mut written = 0;
        loop {
            // Before the rest is written, which may be nothing: what was given up makes room as well.
            if self.crowded && self.connection.queued() <= CROWDED {
                self.crowded = false;
                self.all_may_produce();
            }
            let bytes = self.connection.transmit();
            if bytes.is_empty() {
                self.blocked = None;
                self.wake.append(&mut self.written);
                break;
            }
            if bytes.len() >= WIDE && !self.is_wide {
                self.is_wide = true;
                if matches!(link.peer, Peer::Unix(_)) {
                    socket::widen(link.socket());
                }
            }
            if written >= PORTION && self.seat == Seat::Driven {
                // The peer reads as fast as this writes. Others who wait for the session go first; its task goes on.
                self.is_left = true;
                self.wake_attendant();
                break;
            }
            match socket::sent(socket::send(link.socket(), bytes)) {
                Ok(0) => {
                    self.blocked.get_or_insert_with(link.admission.clock);
                    let (alarm, attendant) = (self.alarm.clone(), self.attendant.take());
                    self.wake.extend(alarm.into_iter().chain(attendant));
                    return Flushed::Blocked;
                }
                Ok(count) => {
                    written += count;
                    link.admission.stats.sent(count);
                    self.taken = self.taken.saturating_add(count as u64);
                    self.connection.transmitted(count);
                    if self.blocked.is_some() {
                        // The socket has room again because the peer has read. That is a sign of life, and may be the
                        // only one: its PONG may wait behind what is written, or not be read for what is not.
                        let now = link.admission.now();
                        self.blocked = Some(now);
                        self.pulse.hear(now);
                    }
                }
                Err(error) => {
                    // What the peer said before may still be there to be read, a GOODBYE above all. Whoever reads finds
                    // the end behind it.
                    self.broken = Some(Box::new(End::io(&error)));
                    self.blocked = None;
                    self.wake.append(&mut self.written);
                    // No call begins here any more: those who wait to call go elsewhere, and who keeps a session looks for one.
                    self.wake_attendant();
                    self.call_up();
                    return Flushed::All;
                }
            }
        }
        Flushed::All
    }

    /// Whether producers of items, and of large answers, should wait until the peer has read more.
    pub(crate) fn is_crowded(&mut self) -> bool {
        let crowded = self.connection.queued() > CROWDED;
        self.crowded |= crowded;
        crowded
    }
}

/// Bytes that are worth a write of their own: some sixteen small packets.
const ENOUGH: usize = 1200;
/// Items and large answers wait when this many bytes are queued.
const CROWDED: usize = 1024 * 1024;
/// Bytes that are written at a time, however much the socket takes.
const PORTION: usize = 256 * 1024;
/// So much written at once is large.
const WIDE: usize = 32 * 1024;

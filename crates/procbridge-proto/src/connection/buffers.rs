//! The memory into which a connection is read.

use alloc::vec::Vec;

use crate::connection::{Connection, Kind};

impl Connection {
    /// The buffer to append received bytes to, with room for the next read; call [`received`](Self::received)
    /// afterwards. It grows with what has arrived, never by what a header announces. While it is empty it can be
    /// replaced by one without memory.
    pub fn read_buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.kind {
            Kind::Session(session) => session.frames.buffer(),
            Kind::Classic(classic) => classic.decoder.buffer(),
        }
    }

    /// Takes the [read buffer](Self::read_buffer) away, to be filled elsewhere and [put back](Self::put_read_buffer).
    pub fn take_read_buffer(&mut self) -> Vec<u8> {
        core::mem::take(self.read_buffer())
    }

    /// Puts the read buffer back that was taken away, with what was appended to it.
    pub fn put_read_buffer(&mut self, buffer: Vec<u8>) {
        match &mut self.kind {
            Kind::Session(session) => session.frames.put(buffer),
            Kind::Classic(classic) => *classic.decoder.buffer() = buffer,
        }
    }

    /// In a session, has what arrives next go to `room`, whose memory many connections can share: the [read
    /// buffer](Self::read_buffer) is that until it is [given back](Self::return_read_buffer). Otherwise, `room` is dropped.
    pub fn lend_read_buffer(&mut self, room: Vec<u8>) {
        if let Kind::Session(session) = &mut self.kind {
            session.frames.lend(room);
        }
    }

    /// Gives back the room that was [lent](Self::lend_read_buffer). Of what has not fully arrived this keeps a copy, in memory of
    /// its own.
    pub fn return_read_buffer(&mut self) -> Vec<u8> {
        self.session_mut().map(|session| session.frames.give_back()).unwrap_or_default()
    }

    /// Whether memory is held only because it may be of use soon: the buffer of a large body that was written.
    pub fn has_spare(&self) -> bool {
        self.session().is_some_and(|session| session.out.spare() > 0)
    }

    /// Gives up memory that is held only because it may be of use soon.
    pub fn drop_spare(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.out.drop_spare();
            session.out.shrink();
        }
    }
}

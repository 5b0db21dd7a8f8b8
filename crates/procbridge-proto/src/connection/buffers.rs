//! The memory into which a connection is read.

use alloc::vec::Vec;

use crate::connection::{Connection, Kind};

impl Connection {
    /// Returns the buffer to append received bytes to, with capacity for the next read. Call
    /// [`received`](Self::received) afterwards. The buffer grows with the bytes that arrive, never by a declared
    /// length. While it is empty it can be replaced by one without memory.
    pub fn read_buffer(&mut self) -> &mut Vec<u8> {
        match &mut self.kind {
            Kind::Session(session) => session.frames.buffer(),
            Kind::Classic(classic) => classic.decoder.buffer(),
        }
    }

    /// Takes the [read buffer](Self::read_buffer), to be filled elsewhere and [put back](Self::put_read_buffer).
    pub fn take_read_buffer(&mut self) -> Vec<u8> {
        core::mem::take(self.read_buffer())
    }

    /// Puts the read buffer back that was taken, with the bytes that were appended to it.
    pub fn put_read_buffer(&mut self, buffer: Vec<u8>) {
        match &mut self.kind {
            Kind::Session(session) => session.frames.put(buffer),
            Kind::Classic(classic) => *classic.decoder.buffer() = buffer,
        }
    }

    /// Makes `buffer` the [read buffer](Self::read_buffer) of a session until it is
    /// [given back](Self::return_read_buffer). Many connections can share its memory. Without a session it is dropped.
    pub fn lend_read_buffer(&mut self, buffer: Vec<u8>) {
        if let Kind::Session(session) = &mut self.kind {
            session.frames.lend(buffer);
        }
    }

    /// Returns the buffer that was [lent](Self::lend_read_buffer). The connection keeps a copy of an incomplete packet,
    /// in memory of its own.
    pub fn return_read_buffer(&mut self) -> Vec<u8> {
        self.session_mut().map(|session| session.frames.give_back()).unwrap_or_default()
    }

    /// Whether memory is held only for reuse: the buffer of a large body that was written.
    pub fn has_spare(&self) -> bool {
        self.session().is_some_and(|session| session.out.spare() > 0)
    }

    /// Frees the memory that is held only for reuse.
    pub fn drop_spare(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.out.drop_spare();
            session.out.shrink();
        }
    }
}

//! The read buffer of a thread, shared by all sessions that its tasks drive. A session owns memory only for a message
//! that has not fully arrived, and a read allocates none.

use std::cell::Cell;

use crate::session::state::State;

thread_local! {
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl State {
    /// Makes the session read into the buffer of this thread from here on.
    pub(super) fn borrow_read_buffer(&mut self) {
        let mut buffer = READ_BUFFER.take();
        buffer.reserve_exact(SIZE);
        self.connection.lend_read_buffer(buffer);
        // Bytes in the session's own buffer have moved to the lent one.
        self.reading.has_buffer = false;
        self.reading.has_shared_buffer = true;
    }

    /// Returns the buffer to this thread, if the session has it.
    pub(super) fn return_read_buffer(&mut self) {
        if self.reading.has_shared_buffer {
            self.reading.has_shared_buffer = false;
            let mut buffer = self.connection.return_read_buffer();
            buffer.clear();
            if buffer.capacity() <= 2 * SIZE {
                READ_BUFFER.set(buffer);
            }
        }
    }
}

/// Capacity for one read under load, with the part of a packet before it; small enough that an allocator has it at
/// hand.
const SIZE: usize = 104 * 1024;

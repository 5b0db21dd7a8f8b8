//! What a thread reads into, for all sessions that its tasks drive. A session has memory of its own only for what has not
//! fully arrived, and a read asks for none.

use std::cell::Cell;

use crate::session::state::State;

thread_local! {
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl State {
    /// Has what is read from here on go to the room of this thread.
    pub(super) fn borrow_read_buffer(&mut self) {
        let mut room = READ_BUFFER.take();
        room.reserve_exact(SIZE);
        self.connection.lend_read_buffer(room);
        // It has moved there.
        self.has_buffer = false;
        self.has_shared_buffer = true;
    }

    /// Gives the room up, if this is there.
    pub(super) fn return_read_buffer(&mut self) {
        if self.has_shared_buffer {
            self.has_shared_buffer = false;
            let mut room = self.connection.return_read_buffer();
            room.clear();
            if room.capacity() <= 2 * SIZE {
                READ_BUFFER.set(room);
            }
        }
    }
}

/// Room for one read while much arrives, with that of a part of a packet before it; little enough that an allocator has
/// it at hand.
const SIZE: usize = 104 * 1024;

//! What a thread reads into, for all sessions that its tasks drive. A session has memory of its own only for what has not
//! fully arrived, and a read asks for none.

use std::cell::Cell;

use crate::session::state::State;

thread_local! {
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl State {
    /// Has what is read from here on go to the room of this thread.
    pub(super) fn enter_room(&mut self) {
        let mut room = ROOM.take();
        room.reserve_exact(SIZE);
        self.connection.lend_room(room);
        // It has moved there.
        self.has_buffer = false;
        self.is_in_room = true;
    }

    /// Gives the room up, if this is there.
    pub(super) fn leave_room(&mut self) {
        if self.is_in_room {
            self.is_in_room = false;
            let mut room = self.connection.give_back_room();
            room.clear();
            if room.capacity() <= 2 * SIZE {
                ROOM.set(room);
            }
        }
    }
}

/// Room for one read while much arrives, with that of a part of a packet before it; little enough that an allocator has
/// it at hand.
const SIZE: usize = 104 * 1024;

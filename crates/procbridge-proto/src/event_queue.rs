//! The events that the program has not polled yet, in order.

use alloc::collections::VecDeque;

use crate::event::Event;

/// A queue of events for the program to poll.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    queue: VecDeque<Event>,
}

impl EventQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.queue.push_back(event);
    }

    /// Returns the next event without removing it.
    pub(crate) fn first(&self) -> Option<&Event> {
        self.queue.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    /// Frees the memory of an empty queue.
    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }

    /// Drops the events for which `keep` returns false.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Event) -> bool) {
        self.queue.retain(keep);
    }
}

//! What happened and was not told yet, in the order in which it happened.

use alloc::collections::VecDeque;

use crate::event::Event;

/// Events that wait to be told.
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

    /// The next one.
    pub(crate) fn first(&self) -> Option<&Event> {
        self.queue.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    /// Holds no memory if there is nothing to tell.
    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }

    /// Drops the events of which `keep` says no.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Event) -> bool) {
        self.queue.retain(keep);
    }
}

//! The calls that wait until the peer takes one more, in their order (PB-FLT-7).

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// Those who wait, in their order.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) drawn: u64,
    pub(super) clock: fn() -> Instant,
    pub(super) waiting: BTreeMap<u64, Waiter>,
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Absent if it was given up.
    pub(super) waker: Option<Waker>,
    /// Until when it keeps others waiting. Whoever is held may be a future that nobody looks at.
    pub(super) until: Option<Instant>,
}

impl Queue {
    pub(super) fn new(clock: fn() -> Instant) -> Box<Self> {
        Box::new(Self { drawn: 0, clock, waiting: BTreeMap::new() })
    }

    pub(super) fn next_ticket(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Whoever is first, but for the one with the waker `own`.
    pub(super) fn first(&self, own: Option<&Waker>) -> Option<Waker> {
        let mut waiting = self.waiting.values().filter_map(|waiting| waiting.waker.as_ref());
        waiting.find(|waker| own.is_none_or(|own| !waker.will_wake(own))).cloned()
    }

    /// Those whose turn it is if there is room for so many, among them whoever comes with the ticket `own`.
    pub(super) fn eligible(&self, room: usize, own: Option<u64>) -> impl Iterator<Item = (&u64, &Waiter)> {
        let now = (self.clock)();
        let counts = move |&(&ticket, waiting): &(&u64, &Waiter)| {
            own == Some(ticket) || waiting.until.is_none_or(|until| now < until)
        };
        self.waiting.iter().filter(counts).take(room)
    }
}

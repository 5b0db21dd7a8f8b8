//! The FIFO queue of outgoing calls at the peer's concurrency limit (PB-FLT-7).

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// The queued calls, by ticket.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) drawn: u64,
    pub(super) clock: fn() -> Instant,
    pub(super) waiting: BTreeMap<u64, Waiter>,
}

/// A queued call.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// Absent if the call was cancelled.
    pub(super) waker: Option<Waker>,
    /// Until when it keeps later calls waiting. A queued call may be a future that is never polled.
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

    /// Returns the waker of the first queued call, skipping the one with the waker `own`.
    pub(super) fn first(&self, own: Option<&Waker>) -> Option<Waker> {
        let mut waiting = self.waiting.values().filter_map(|waiting| waiting.waker.as_ref());
        waiting.find(|waker| own.is_none_or(|own| !waker.will_wake(own))).cloned()
    }

    /// Returns the calls that may begin with so many free permits. The call with the ticket `own` counts even if it is
    /// overdue.
    pub(super) fn eligible(&self, permits: usize, own: Option<u64>) -> impl Iterator<Item = (&u64, &Waiter)> {
        let now = (self.clock)();
        let counts = move |&(&ticket, waiting): &(&u64, &Waiter)| {
            own == Some(ticket) || waiting.until.is_none_or(|until| now < until)
        };
        self.waiting.iter().filter(counts).take(permits)
    }
}

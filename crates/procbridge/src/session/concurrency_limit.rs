//! Calls that wait for their turn: the peer says how many it takes at a time, and refuses one more (PB-FLT-7).

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Packet};

use crate::session::call_slot::{CallEnd, Slot};
use crate::session::leader::{Follower, Step};
use crate::session::outgoing_calls::{PendingCall, answer};
use crate::session::session::{BeginError, Session};
use crate::session::state::State;
use crate::session::wait_queue::{Queue, Waiter};

/// A call that is not begun yet. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    session: Arc<Session>,
    packet: Option<Packet>,
    /// Its place in the queue.
    ticket: Option<u64>,
    /// When it waits no longer.
    until: Option<Instant>,
}

/// A call that the peer takes, or one that waits for its turn.
#[derive(Debug)]
pub(crate) enum Started<T> {
    Now(T),
    Queued(Box<QueuedCall>),
}

impl Session {
    /// Begins a call if the peer takes one more, or if it is not to be held back at all. `hold` is how long.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin_or_queue(
        self: &Arc<Self>,
        packet: Packet,
        hold: Option<Duration>,
    ) -> Result<Started<PendingCall>, BeginError> {
        let Some(hold) = hold else { return self.begin(packet).map(Started::Now) };
        let begun = self.with(|state| match state.has_permit(None) {
            true => state.send(self, packet, true).map(Ok),
            false => Ok(Err(packet)),
        })?;
        Ok(match begun {
            Ok(id) => Started::Now(self.pending(id)),
            Err(packet) => Started::Queued(self.enqueue(packet, hold)),
        })
    }

    /// Begins a call and takes the first [turn](Session::turn) of who waits for its answer; whoever reads writes before. A call
    /// that the peer does not take for now waits for `hold`, if it is given.
    pub(crate) fn call(
        self: &Arc<Self>,
        packet: Packet,
        hold: Option<Duration>,
        follower: &mut Follower,
    ) -> Result<Started<(PendingCall, Step<CallEnd>)>, BeginError> {
        let called = self.with(|state| {
            if hold.is_some() && !state.has_permit(None) {
                return Ok(Err(packet));
            }
            let is_only_call = state.calls.is_empty();
            let id = state.begin(packet)?;
            state.calls.insert(id, Slot::default());
            if !state.has_no_reader() {
                state.flush_later(self, is_only_call);
            }
            let turn = state.turn(self, follower, |state, waker| answer(state, self, id, waker));
            let over = matches!(turn, Step::Done(_));
            Ok(Ok((self.pending_after(id, over), turn)))
        })?;
        Ok(match called {
            Ok(begun) => Started::Now(begun),
            Err(packet) => Started::Queued(self.enqueue(packet, hold.unwrap_or_default())),
        })
    }

    /// Has a call wait for its turn.
    pub(super) fn enqueue(self: &Arc<Self>, packet: Packet, hold: Duration) -> Box<QueuedCall> {
        let (session, until) = (self.clone(), self.admission.now().checked_add(hold));
        Box::new(QueuedCall { session, packet: Some(packet), ticket: None, until })
    }
}

impl QueuedCall {
    /// When it is sent whatever the peer says, or is over because of its own `deadline`.
    pub(crate) fn until(&self, deadline: Option<Instant>) -> Option<Instant> {
        [self.until, deadline].into_iter().flatten().min()
    }

    /// The call, begun as soon as it is its turn.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<PendingCall, BeginError>> {
        let session = self.session.clone();
        session.with(|state| {
            if state.is_given_up(self.ticket) {
                self.leave(state);
                return Poll::Ready(Err(BeginError::Cancelled));
            }
            if state.has_permit(self.ticket) {
                return Poll::Ready(self.send(state));
            }
            let queue = state.queued.get_or_insert_with(|| Queue::new(session.admission.clock));
            let ticket = *self.ticket.get_or_insert_with(|| queue.next_ticket());
            queue.waiting.insert(ticket, Waiter { waker: Some(waker.clone()), until: self.until });
            Poll::Pending
        })
    }

    /// Begins the call: it is the peer's to refuse it.
    pub(crate) fn send_anyway(&mut self) -> Result<PendingCall, BeginError> {
        let session = self.session.clone();
        session.with(|state| {
            let sent = self.send(state);
            if sent.is_err() {
                // As for one that is dropped.
                state.promote_follower(&session, None);
            }
            sent
        })
    }

    fn send(&mut self, state: &mut State) -> Result<PendingCall, BeginError> {
        let sent: Result<CallId, _> = self
            .packet
            .take()
            .map_or(Err(BeginError::Gone), |packet| state.send(&self.session, packet, true));
        self.leave(state);
        sent.map(|id| self.session.pending(id))
    }

    fn leave(&mut self, state: &mut State) {
        let (Some(ticket), Some(queue)) = (self.ticket.take(), &mut state.queued) else { return };
        queue.waiting.remove(&ticket);
        if queue.waiting.is_empty() {
            state.queued = None;
        }
        state.wake_eligible();
    }
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let session = self.session.clone();
            session.with(|state| {
                self.leave(state);
                // It may have been told of the seat, and those behind it still wait.
                state.promote_follower(&session, None);
            });
        }
    }
}

impl State {
    /// How many more calls the peer takes. One that takes none refuses by itself, and a session that is over has no queue.
    fn free_permits(&self) -> usize {
        match self.connection.peer().map_or(0, |terms| terms.max_calls()) {
            0 => usize::MAX,
            _ if !self.is_open() => usize::MAX,
            most => (most as usize).saturating_sub(self.connection.pending_calls()),
        }
    }

    /// Whether it is the turn of the call with `ticket`, or of one that has just come.
    pub(super) fn has_permit(&self, ticket: Option<u64>) -> bool {
        let room = self.free_permits();
        let Some(queue) = &self.queued else { return room > 0 };
        let mut in_turn = queue.eligible(room, ticket);
        match ticket {
            Some(ticket) => in_turn.any(|(&waiting, _)| waiting == ticket),
            None => in_turn.count() < room,
        }
    }

    fn is_given_up(&self, ticket: Option<u64>) -> bool {
        let queue = self.queued.as_ref().zip(ticket);
        queue.is_some_and(|(queue, ticket)| {
            matches!(queue.waiting.get(&ticket), Some(Waiter { waker: None, .. }))
        })
    }

    /// Wakes those whose turn it is.
    pub(super) fn wake_eligible(&mut self) {
        if let Some(queue) = &self.queued {
            let in_turn = queue.eligible(self.free_permits(), None);
            self.to_wake.extend(in_turn.filter_map(|(_, waiting)| waiting.waker.clone()));
        }
    }

    /// Gives up all that wait.
    pub(super) fn cancel_queued(&mut self) {
        if let Some(queue) = &mut self.queued {
            self.to_wake.extend(queue.waiting.values_mut().filter_map(|waiting| waiting.waker.take()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use procbridge_proto::Event;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::session::state::Reader;
    use crate::session::testing::{Bell, Ends, answer, call};

    /// A call that waits, and what is rung to tell it.
    type Waits = (QueuedCall, Arc<Bell>, Waker);

    /// Two calls that wait for their turn on a session on which one is in flight, and nobody waits for its answer: they read
    /// for all.
    fn waiting() -> (Ends, [Waits; 2], PendingCall) {
        let ends = Ends::client(Reader::None, 1);
        let work = || call("work", &(), ResultForm::Result);
        let pending = ends.session.begin(work()).unwrap();
        let held = [(), ()].map(|()| {
            let mut held = *ends.session.enqueue(work(), Duration::from_secs(5));
            let (bell, waker) = Bell::new();
            assert!(held.poll(&waker).is_pending());
            (held, bell, waker)
        });
        (ends, held, pending)
    }

    /// Whoever leaves has not left the queue yet.
    #[test]
    fn the_seat_is_not_offered_to_the_one_who_leaves_it() {
        let (ends, [(_early, first, leaves), (_late, second, _)], _calling) = waiting();
        assert!(ends.session.become_leader(None));
        ends.session.step_down(Some(&leaves));
        assert_eq!((first.rung(), second.rung()), (0, 1));
    }

    #[test]
    fn who_leaves_the_queue_passes_the_seat_on() {
        let (ends, [(early, first, _), (_late, second, _)], _calling) = waiting();
        ends.session.hand_over(None);
        assert_eq!((first.rung(), second.rung()), (1, 0));
        drop(early);
        assert_eq!(second.rung(), 1);
    }

    /// Has the peer answer the calls that were sent.
    fn answer_calls(ends: &mut Ends) {
        let mut sent = [0; 1024];
        let count = ends.socket.read(&mut sent).unwrap();
        ends.peer.receive(&sent[..count]);
        while let Some(event) = ends.peer.poll_event() {
            if let Event::Request { id, .. } = event {
                ends.peer.reply(id, answer("null")).unwrap();
            }
        }
        ends.deliver();
    }

    #[test]
    fn who_is_not_looked_at_keeps_others_waiting_until_its_hold_is_over() {
        let mut ends = Ends::client(Reader::None, 1);
        let session = ends.session.clone();
        let work = || call("work", &(), ResultForm::Result);
        let hold = |hold| {
            let mut held = *session.enqueue(work(), hold);
            let (bell, waker) = Bell::new();
            assert!(held.poll(&waker).is_pending());
            (held, bell)
        };
        let has_turn = || session.with(|state| state.has_permit(None));
        let _answered = session.begin(work()).unwrap();
        let (mut over, _) = hold(Duration::ZERO);
        let (mut next, told) = hold(Duration::from_secs(5));
        answer_calls(&mut ends);
        assert_eq!((told.rung(), has_turn()), (1, false));
        let begun = next.poll(Waker::noop());
        assert!(matches!(begun, Poll::Ready(Ok(_))), "{begun:?}");
        assert!(over.poll(Waker::noop()).is_pending());
        answer_calls(&mut ends);
        assert!(has_turn());
        // Whoever is looked at late has its turn all the same.
        assert!(over.poll(Waker::noop()).is_ready());
    }
}

//! The concurrency limit for outgoing calls: the peer says how many it takes at a time and refuses more (PB-FLT-7).

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

/// A call queued at the concurrency limit. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    session: Arc<Session>,
    packet: Option<Packet>,
    /// Its position in the queue.
    ticket: Option<u64>,
    /// When it waits no longer.
    until: Option<Instant>,
}

/// A call that was begun, or is queued at the concurrency limit.
#[derive(Debug)]
pub(crate) enum Started<T> {
    Now(T),
    Queued(Box<QueuedCall>),
}

impl Session {
    /// Begins a call if it gets a permit, or if `queue_timeout` is `None`. Otherwise queues it for at most
    /// `queue_timeout`.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin_or_queue(
        self: &Arc<Self>,
        packet: Packet,
        queue_timeout: Option<Duration>,
    ) -> Result<Started<PendingCall>, BeginError> {
        let Some(queue_timeout) = queue_timeout else { return self.begin(packet).map(Started::Now) };
        let begun = self.with(|state| match state.has_permit(None) {
            true => state.send(self, packet, true).map(Ok),
            false => Ok(Err(packet)),
        })?;
        Ok(match begun {
            Ok(id) => Started::Now(self.pending(id)),
            Err(packet) => Started::Queued(self.enqueue(packet, queue_timeout)),
        })
    }

    /// Begins a call and takes the caller's first [step](Session::step). Writes the call at once unless the caller
    /// becomes the leader, which writes before it reads. Without a permit the call is queued for `queue_timeout`, if
    /// that is given.
    pub(crate) fn call(
        self: &Arc<Self>,
        packet: Packet,
        queue_timeout: Option<Duration>,
        follower: &mut Follower,
    ) -> Result<Started<(PendingCall, Step<CallEnd>)>, BeginError> {
        let called = self.with(|state| {
            if queue_timeout.is_some() && !state.has_permit(None) {
                return Ok(Err(packet));
            }
            let is_only_call = state.outgoing.calls.is_empty();
            let id = state.begin(packet)?;
            state.outgoing.calls.insert(id, Slot::default());
            if !state.has_no_reader() {
                state.flush_later(self, is_only_call);
            }
            let step = state.step(self, follower, |state, waker| answer(state, self, id, waker));
            let over = matches!(step, Step::Done(_));
            Ok(Ok((self.pending_after(id, over), step)))
        })?;
        Ok(match called {
            Ok(begun) => Started::Now(begun),
            Err(packet) => Started::Queued(self.enqueue(packet, queue_timeout.unwrap_or_default())),
        })
    }

    /// Returns a call that is queued at the concurrency limit for at most `queue_timeout`.
    pub(super) fn enqueue(self: &Arc<Self>, packet: Packet, queue_timeout: Duration) -> Box<QueuedCall> {
        let (session, until) = (self.clone(), self.admission.now().checked_add(queue_timeout));
        Box::new(QueuedCall { session, packet: Some(packet), ticket: None, until })
    }
}

impl QueuedCall {
    /// Returns when the call stops waiting: it is sent without a permit then, or ends at its own `deadline`.
    pub(crate) fn until(&self, deadline: Option<Instant>) -> Option<Instant> {
        [self.until, deadline].into_iter().flatten().min()
    }

    /// Begins the call as soon as it has a permit.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<PendingCall, BeginError>> {
        let session = self.session.clone();
        session.with(|state| {
            if state.was_cancelled(self.ticket) {
                self.leave(state);
                return Poll::Ready(Err(BeginError::Cancelled));
            }
            if state.has_permit(self.ticket) {
                return Poll::Ready(self.send(state));
            }
            let queue = state.outgoing.queued.get_or_insert_with(|| Queue::new(session.admission.clock));
            let ticket = *self.ticket.get_or_insert_with(|| queue.next_ticket());
            queue.waiting.insert(ticket, Waiter { waker: Some(waker.clone()), until: self.until });
            Poll::Pending
        })
    }

    /// Begins the call without a permit: the peer may refuse it.
    pub(crate) fn send_anyway(&mut self) -> Result<PendingCall, BeginError> {
        let session = self.session.clone();
        session.with(|state| {
            let sent = self.send(state);
            if sent.is_err() {
                // This call may have been promoted and does not wait: pass leadership on, as a drop does.
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
        let (Some(ticket), Some(queue)) = (self.ticket.take(), &mut state.outgoing.queued) else { return };
        queue.waiting.remove(&ticket);
        if queue.waiting.is_empty() {
            state.outgoing.queued = None;
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
                // This call may have been promoted, and those queued behind it still wait.
                state.promote_follower(&session, None);
            });
        }
    }
}

impl State {
    /// Returns how many more calls the peer takes. A peer that takes none refuses them itself; an ended session has no
    /// queue.
    fn free_permits(&self) -> usize {
        match self.connection.peer().map_or(0, |settings| settings.max_calls()) {
            0 => usize::MAX,
            _ if !self.is_open() => usize::MAX,
            most => (most as usize).saturating_sub(self.connection.pending_calls()),
        }
    }

    /// Whether the call with `ticket` has a permit; without a ticket, whether a new call has one.
    pub(super) fn has_permit(&self, ticket: Option<u64>) -> bool {
        let permits = self.free_permits();
        let Some(queue) = &self.outgoing.queued else { return permits > 0 };
        let mut eligible = queue.eligible(permits, ticket);
        match ticket {
            Some(ticket) => eligible.any(|(&waiting, _)| waiting == ticket),
            None => eligible.count() < permits,
        }
    }

    fn was_cancelled(&self, ticket: Option<u64>) -> bool {
        let queue = self.outgoing.queued.as_ref().zip(ticket);
        queue.is_some_and(|(queue, ticket)| {
            matches!(queue.waiting.get(&ticket), Some(Waiter { waker: None, .. }))
        })
    }

    /// Wakes the queued calls that have a permit.
    pub(super) fn wake_eligible(&mut self) {
        if let Some(queue) = &self.outgoing.queued {
            let eligible = queue.eligible(self.free_permits(), None);
            self.unlocked.to_wake.extend(eligible.filter_map(|(_, waiting)| waiting.waker.clone()));
        }
    }

    /// Cancels all queued calls.
    pub(super) fn cancel_queued(&mut self) {
        if let Some(queue) = &mut self.outgoing.queued {
            self.unlocked
                .to_wake
                .extend(queue.waiting.values_mut().filter_map(|waiting| waiting.waker.take()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use procbridge_proto::Event;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::session::reading::Reader;
    use crate::session::testing::{Bell, Ends, answer, call};

    /// A queued call, and what counts how often its waker is woken.
    type Waits = (QueuedCall, Arc<Bell>, Waker);

    /// Returns two queued calls on a session with one call in flight that no thread waits for: a queued call becomes
    /// the leader.
    fn waiting() -> (Ends, [Waits; 2], PendingCall) {
        let ends = Ends::client(Reader::None, 1);
        let work = || call("work", &(), ResultForm::Result);
        let pending = ends.session.begin(work()).unwrap();
        let queued = [(), ()].map(|()| {
            let mut queued = *ends.session.enqueue(work(), Duration::from_secs(5));
            let (bell, waker) = Bell::new();
            assert!(queued.poll(&waker).is_pending());
            (queued, bell, waker)
        });
        (ends, queued, pending)
    }

    /// The leader that steps down has not left the queue yet.
    #[test]
    fn a_leader_that_steps_down_is_not_promoted() {
        let (ends, [(_early, first, leaves), (_late, second, _)], _pending) = waiting();
        assert!(ends.session.become_leader(None));
        ends.session.step_down(Some(&leaves));
        assert_eq!((first.woken(), second.woken()), (0, 1));
    }

    #[test]
    fn a_call_that_leaves_the_queue_promotes_the_next() {
        let (ends, [(early, first, _), (_late, second, _)], _pending) = waiting();
        ends.session.hand_over(None);
        assert_eq!((first.woken(), second.woken()), (1, 0));
        drop(early);
        assert_eq!(second.woken(), 1);
    }

    /// Makes the peer answer the calls that were sent.
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
    fn a_future_that_is_not_polled_keeps_others_waiting_until_its_queue_timeout() {
        let mut ends = Ends::client(Reader::None, 1);
        let session = ends.session.clone();
        let work = || call("work", &(), ResultForm::Result);
        let enqueue = |queue_timeout| {
            let mut queued = *session.enqueue(work(), queue_timeout);
            let (bell, waker) = Bell::new();
            assert!(queued.poll(&waker).is_pending());
            (queued, bell)
        };
        let has_permit = || session.with(|state| state.has_permit(None));
        let _answered = session.begin(work()).unwrap();
        let (mut over, _) = enqueue(Duration::ZERO);
        let (mut next, woken) = enqueue(Duration::from_secs(5));
        answer_calls(&mut ends);
        assert_eq!((woken.woken(), has_permit()), (1, false));
        let begun = next.poll(Waker::noop());
        assert!(matches!(begun, Poll::Ready(Ok(_))), "{begun:?}");
        assert!(over.poll(Waker::noop()).is_pending());
        answer_calls(&mut ends);
        assert!(has_permit());
        // A call that is polled late gets its permit all the same.
        assert!(over.poll(Waker::noop()).is_ready());
    }
}

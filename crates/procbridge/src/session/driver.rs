//! What a task needs that drives a session: the async face has one for each.

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use procbridge_proto::CallId;

use crate::net::socket::Read;
use crate::session::incoming_calls::{Prepared, Work};
use crate::session::outgoing_calls::remember;
use crate::session::session::Link;
use crate::session::state::{PORTION, State, Turnstile};

/// What a task finds that [drives](Seat::Driven) a session.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// Whether there are calls of the peer that nobody has begun to serve, or packets that nobody has looked at.
    pub(crate) has_work: bool,
    pub(crate) has_ended: bool,
    /// Whether new calls can begin here.
    pub(crate) is_open: bool,
    pub(crate) is_blocked: bool,
    pub(crate) is_reading_paused: bool,
    /// Whether somebody [rang](Link::ring).
    pub(crate) is_rung: bool,
    /// Whether a caller was woken that may hold its thread for long.
    pub(crate) wakes_large: bool,
    /// When the session ends unless the peer reads or goes on sending, or a call does: sooner than the next
    /// [beat](Link::beat) may be planned.
    pub(crate) due: Option<Instant>,
    /// When something has arrived last.
    pub(crate) heard: Instant,
}

impl Link {
    /// For the task that drives the session: writes what is queued, and tells what is to be done. From here until the
    /// task [rests](Self::rest) nobody wakes it.
    pub(crate) fn survey(&self) -> Outlook {
        self.with(|state| {
            state.attendant = None;
            state.flush(self);
            if let Turnstile::ShutUntil(until) = state.turnstile
                && until <= self.admission.now()
            {
                state.turnstile = Turnstile::Passed;
            }
            Outlook {
                has_work: state.has_work(),
                has_ended: state.end.is_some(),
                is_open: state.is_open(),
                is_blocked: state.blocked.is_some(),
                is_reading_paused: self.is_reading_held(state),
                is_rung: mem::take(&mut state.is_rung),
                wakes_large: mem::take(&mut state.wakes_large),
                due: self.task_due(state),
                heard: state.pulse.heard(),
            }
        })
    }

    /// Reads what has arrived, without waiting, and tells whether there was anything. The packets in it are to be [looked
    /// at](Self::next_served).
    pub(crate) fn read_in_room(
        self: &Arc<Self>,
        read: impl FnOnce(&mut Vec<u8>) -> io::Result<Read>,
    ) -> bool {
        self.with(|state| {
            if state.end.is_some() || state.is_in_room {
                return false;
            }
            state.enter_room();
            match read(state.connection.read_buffer()) {
                Ok(Read::Bytes(count)) => {
                    state.hear(self, count, self.admission.now());
                    state.connection.appended();
                    state.arrived = count;
                    true
                }
                read => {
                    state.leave_room();
                    let is_nothing = matches!(read, Ok(Read::Nothing));
                    state.took(self, read, self.admission.now());
                    !is_nothing
                }
            }
        })
    }

    /// The same, and looks at all of it.
    pub(crate) fn read_all(self: &Arc<Self>, read: impl FnOnce(&mut Vec<u8>) -> io::Result<Read>) -> bool {
        let is_something = self.read_in_room(read);
        let mut goes_on = is_something;
        while goes_on {
            goes_on = self.with(|state| {
                state.turnstile = Turnstile::Passed;
                while let Some(work) = state.pull(self) {
                    state.make_ready(work);
                }
                state.is_in_room
            });
        }
        is_something
    }

    /// Queues the answer to a call, if one was `answered`, and looks at packets until there is another call to be served.
    /// What each call holds is given back before the next one takes memory. Returns nothing as well after many packets
    /// without a call: then there is more [work](Outlook::has_work).
    pub(crate) fn next_served(self: &Arc<Self>, answered: Option<(CallId, Prepared)>) -> Option<Work> {
        self.with(|state| {
            if let Some((id, answer)) = answered {
                state.reply(self, id, answer);
            }
            let first = state.ready.pop_front();
            first.or_else(|| state.pull(self))
        })
    }

    /// When anything of the session was last seen.
    pub(crate) fn seen(&self) -> Instant {
        self.lock().pulse.seen()
    }

    /// Whether new calls can begin here, and somebody has looked at the session after `since`.
    pub(crate) fn is_open_since(&self, since: Option<Instant>) -> bool {
        let state = self.lock();
        state.is_open() && since.is_none_or(|since| state.pulse.seen() >= since)
    }

    /// Whether something was [left](State::flush_soon) to the task that drives the session.
    pub(crate) fn is_left(&self) -> bool {
        self.lock().is_left
    }

    /// Has `waker` told when there is something to serve or to write, or the session is over. Tells whether that is not so
    /// already, and all is as the task `found` it. The task looks at the clock when that was `planned`.
    pub(crate) fn rest(&self, waker: &Waker, found: &Outlook, planned: Option<Instant>) -> bool {
        let mut state = self.lock();
        let is_written = state.connection.transmit().is_empty() || state.blocked.is_some();
        let is_quiet = !state.has_work() && !state.is_rung && state.end.is_none();
        if !is_quiet || !(is_written || state.broken.is_some()) || !self.is_as_found(&state, found, planned) {
            return false;
        }
        state.shrink();
        if let Some(due) = &mut state.due {
            due.planned = planned;
        }
        remember(&mut state.attendant, waker);
        true
    }

    /// Whether the task waits for the right things. Nobody wakes it between its survey and its rest, where others may have
    /// begun a call that ends sooner than it looks at the clock, or found that the socket takes no more.
    fn is_as_found(&self, state: &State, found: &Outlook, planned: Option<Instant>) -> bool {
        found.is_blocked == state.blocked.is_some()
            && found.is_reading_paused == self.is_reading_held(state)
            && self.task_due(state).is_none_or(|due| planned.is_some_and(|planned| planned <= due))
    }

    /// When the task looks at the clock at the latest, whatever it has planned.
    fn task_due(&self, state: &State) -> Option<Instant> {
        let turn = match state.turnstile {
            Turnstile::ShutUntil(until) => Some(until),
            _ => None,
        };
        [self.due(state), state.calls_due(), turn].into_iter().flatten().min()
    }

    /// Whether nothing is read for now: the peer does not read, or what is here waits.
    fn is_reading_held(&self, state: &State) -> bool {
        self.is_paused(state) || state.is_shut()
    }

    /// Has the task that drives the session look at the clock.
    pub(crate) fn ring(&self) {
        self.with(State::ring);
    }

    /// Does the same, unless that would have to wait. Tells whether it was done.
    pub(crate) fn try_ring(&self) -> bool {
        self.try_with(State::ring).is_some()
    }

    /// Ready when the calls have been served that go on after the session's end.
    pub(crate) fn poll_served(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.lock();
        if state.serving.is_empty() {
            return Poll::Ready(());
        }
        remember(&mut state.attendant, waker);
        Poll::Pending
    }

    /// Lets go of the calls that go on after the session's end: nobody will. Each of them holds the session.
    pub(crate) fn forsake(&self) {
        let (serving, ready) =
            self.with(|state| (mem::take(&mut state.serving), mem::take(&mut state.ready)));
        serving.iter().for_each(|(_, serving)| serving.call.cancel());
        // Their ends may be the program's, and come back here.
        drop((serving, ready));
    }

    /// Has answers written that were queued. The last one goes at once: nobody else is there to write with it.
    pub(crate) fn flush_answers(&self) {
        self.with(|state| {
            if state.serving.is_empty() {
                state.flush(self);
            } else {
                state.flush_soon(self);
            }
        });
    }

    /// Ready when nobody waits for the answer to `id` any longer.
    pub(crate) fn poll_cancelled(&self, id: CallId, waker: &Waker) -> Poll<()> {
        self.with(|state| match state.serving.get_mut(id) {
            Some(serving) if !serving.call.is_cancelled() => {
                remember(&mut serving.cancelled, waker);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }
}

impl State {
    fn ring(&mut self) {
        self.is_rung = true;
        self.wake_attendant();
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty() || (self.is_in_room && !self.is_shut())
    }

    fn is_shut(&self) -> bool {
        matches!(self.turnstile, Turnstile::ShutUntil(_))
    }

    /// Whether the next packet waits until a call has ended.
    fn waits_for_an_end(&mut self, link: &Link) -> bool {
        if self.turnstile == Turnstile::Open && self.connection.is_full() {
            let until = link.admission.now().checked_add(TURN);
            self.turnstile = until.map_or(Turnstile::Passed, Turnstile::ShutUntil);
        }
        self.is_shut()
    }

    /// Looks at what was read until there is a call to be served. Without one all of it has been looked at, or a
    /// portion: others who wait for the session go first.
    fn pull(&mut self, link: &Arc<Link>) -> Option<Work> {
        if !self.is_in_room {
            return None;
        }
        for count in 0..=PORTION {
            if count >= PORTION || self.waits_for_an_end(link) {
                return None;
            }
            let Some(event) = self.next_event() else { break };
            let work = self.happened(link, event);
            if work.is_some() {
                return work;
            }
        }
        self.count_dropped(link);
        self.leave_room();
        self.judge_arrival(link, self.arrived, self.pulse.heard());
        self.call_up();
        None
    }
}

/// How long packets wait for the end of a call, where as many are in flight as are taken.
const TURN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::Form;
    use crate::session::state::{End, Seat};
    use crate::session::testing::{Ends, call};

    /// A runtime may be dropped while a one-way call is with its handler.
    #[test]
    fn a_session_is_let_go_with_its_task_whatever_goes_on_after_its_end() {
        let mut ends = Ends::server(Seat::Free);
        for _ in 0..2 {
            ends.peer.call(call("note", &(), Form::OneWay)).unwrap();
        }
        ends.deliver();
        let begun = ends.link.next_work().unwrap();
        ends.link.close(End::Closed);
        assert!(!ends.link.is_over());
        ends.link.forsake();
        assert!(begun.call.is_cancelled());
        let link = Arc::downgrade(&ends.link);
        drop((ends, begun));
        assert!(link.upgrade().is_none());
    }

    /// What happens between a task's survey and its rest wakes nobody, so the rest must find it.
    #[test]
    fn a_task_does_not_rest_while_a_call_ends_before_it_looks_at_the_clock() {
        let Ends { link, socket: _socket, .. } = Ends::client(Seat::Driven, 8);
        let found = link.survey();
        let now = Instant::now();
        let (sooner, later) = (now + Duration::from_secs(1), now + Duration::from_secs(15));
        assert!(link.rest(Waker::noop(), &found, Some(later)));

        let found = link.survey();
        let work = call("work", &(), Form::Result);
        let _calling = link.begin_copied(&work, None, Some(sooner), Waker::noop()).unwrap().unwrap();
        assert!(!link.rest(Waker::noop(), &found, Some(later)));
        assert!(!link.rest(Waker::noop(), &found, None));
        assert!(link.rest(Waker::noop(), &link.survey(), Some(sooner)));
    }

    #[test]
    fn a_task_does_not_rest_while_it_does_not_wait_for_a_socket_that_is_full() {
        let Ends { link, socket: _socket, .. } = Ends::client(Seat::Driven, 8);
        let found = link.survey();
        let later = Some(Instant::now() + Duration::from_secs(3600));
        let _calling = link.begin(call("work", &"x".repeat(4 << 20), Form::Result)).unwrap();
        // A portion of it was written, and here are the next.
        while !link.is_blocked() {
            link.flush();
        }
        assert!(!link.rest(Waker::noop(), &found, later));
        // It looks again, and waits for the socket, and for the peer that may never read.
        let found = link.survey();
        assert!(!link.rest(Waker::noop(), &found, later));
        assert!(link.rest(Waker::noop(), &found, found.due));
    }
}

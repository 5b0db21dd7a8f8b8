//! The parts of a session for the task that drives it; the async face has one for each session.

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use procbridge_proto::CallId;

use crate::net::socket::Read;
use crate::session::context::SessionContext;
use crate::session::reader::EVENTS_PER_LOCK;
use crate::session::reading::ReceiveGate;
use crate::session::served_call::{IncomingCall, PreparedReply};
use crate::session::session::Session;
use crate::session::state::State;
use crate::session::waker::keep_waker;

/// The work that the task finds which [drives](crate::session::reading::Reader::Task) a session.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Whether there are incoming calls that no handler has begun, or packets that have not been handed out.
    pub(crate) has_incoming: bool,
    pub(crate) has_ended: bool,
    /// Whether new calls can begin here.
    pub(crate) is_open: bool,
    pub(crate) is_blocked: bool,
    pub(crate) is_reading_paused: bool,
    /// Whether the task was [notified](Session::notify_task).
    pub(crate) is_notified: bool,
    /// Whether a woken caller may occupy its thread for long.
    pub(crate) wakes_large: bool,
    /// The next deadline: of the peer to read or go on sending, or of a call. It may be sooner than the next
    /// [tick](Session::tick) that the task has planned.
    pub(crate) due: Option<Instant>,
    /// When something last arrived.
    pub(crate) heard: Instant,
}

impl Session {
    /// Writes what is queued, and returns what the driving task has to do. Until the task [parks](Self::park) nothing
    /// wakes it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.with(|state| {
            state.incoming.standby = None;
            state.flush(self);
            if let ReceiveGate::ClosedUntil(until) = state.reading.receive_gate
                && until <= self.admission.now()
            {
                state.reading.receive_gate = ReceiveGate::Passed;
            }
            Snapshot {
                has_incoming: state.has_incoming(),
                has_ended: state.end.is_some(),
                is_open: state.is_open(),
                is_blocked: state.writing.blocked.is_some(),
                is_reading_paused: self.is_receive_paused(state),
                is_notified: mem::take(&mut state.unlocked.is_notified),
                wakes_large: mem::take(&mut state.unlocked.wakes_large),
                due: self.task_due(state),
                heard: state.keepalive.heard(),
            }
        })
    }

    /// Reads what has arrived, without waiting, and tells whether there was anything.
    /// [`next_incoming`](Self::next_incoming) hands out its packets.
    pub(crate) fn read_once(self: &Arc<Self>, read: impl FnOnce(&mut Vec<u8>) -> io::Result<Read>) -> bool {
        self.with(|state| {
            if state.end.is_some() || state.reading.has_shared_buffer {
                return false;
            }
            state.borrow_read_buffer();
            match read(state.connection.read_buffer()) {
                Ok(Read::Bytes(count)) => {
                    state.note_bytes(self, count, self.admission.now());
                    state.connection.appended();
                    state.reading.arrived = count;
                    true
                }
                read => {
                    state.return_read_buffer();
                    let is_nothing = matches!(read, Ok(Read::Nothing));
                    state.received(self, read, self.admission.now());
                    !is_nothing
                }
            }
        })
    }

    /// Reads once and hands out everything, without waiting. Returns whether there was anything.
    pub(crate) fn read_all(self: &Arc<Self>, read: impl FnOnce(&mut Vec<u8>) -> io::Result<Read>) -> bool {
        let is_something = self.read_once(read);
        let mut goes_on = is_something;
        while goes_on {
            goes_on = self.with(|state| {
                state.reading.receive_gate = ReceiveGate::Passed;
                while let Some(incoming) = state.pull_call(self) {
                    state.queue_call(incoming);
                }
                state.reading.has_shared_buffer
            });
        }
        is_something
    }

    /// Queues the answer to a call, if one was `answered`, and hands out packets until there is another incoming call.
    /// Returning each call's memory before the next call takes some keeps the peak low. Also returns nothing after many
    /// packets without a call: then there [is more](Snapshot::has_incoming).
    pub(crate) fn next_incoming(
        self: &Arc<Self>,
        answered: Option<(CallId, PreparedReply)>,
    ) -> Option<IncomingCall> {
        self.with(|state| {
            if let Some((id, answer)) = answered {
                state.reply(self, id, answer);
            }
            let first = state.incoming.ready.pop_front();
            first.or_else(|| state.pull_call(self))
        })
    }

    /// Returns when a thread or task last checked the session.
    pub(crate) fn seen(&self) -> Instant {
        self.lock().keepalive.seen()
    }

    /// Whether new calls can begin here, and the session was checked after `since`.
    pub(crate) fn is_open_since(&self, since: Option<Instant>) -> bool {
        let state = self.lock();
        state.is_open() && since.is_none_or(|since| state.keepalive.seen() >= since)
    }

    /// Whether a flush was [left](State::flush_soon) to the task that drives the session.
    pub(crate) fn has_pending_flush(&self) -> bool {
        self.lock().writing.is_flush_pending
    }

    /// Registers `waker`, which is woken when there is a call to serve, something to write, or the session ends.
    /// Returns false, without registering it, if that is so already or the state differs from what the task `found`.
    /// `planned` is when the task will check its timers.
    pub(crate) fn park(&self, waker: &Waker, found: &Snapshot, planned: Option<Instant>) -> bool {
        let mut state = self.lock();
        let is_written = state.connection.transmit().is_empty() || state.writing.blocked.is_some();
        let is_quiet = !state.has_incoming() && !state.unlocked.is_notified && state.end.is_none();
        if !is_quiet
            || !(is_written || state.writing.write_error.is_some())
            || !self.is_unchanged(&state, found, planned)
        {
            return false;
        }
        state.shrink();
        if let Some(due) = &mut state.outgoing.deadlines {
            due.planned = planned;
        }
        keep_waker(&mut state.incoming.standby, waker);
        true
    }

    /// Whether the task waits for the right events. Between its snapshot and its parking nothing wakes it: a caller may
    /// have begun a call with an earlier deadline, or found the socket full.
    fn is_unchanged(&self, state: &State, found: &Snapshot, planned: Option<Instant>) -> bool {
        found.is_blocked == state.writing.blocked.is_some()
            && found.is_reading_paused == self.is_receive_paused(state)
            && self.task_due(state).is_none_or(|due| planned.is_some_and(|planned| planned <= due))
    }

    /// Returns the latest time at which the task must check its timers, whatever it has planned.
    fn task_due(&self, state: &State) -> Option<Instant> {
        let gate = match state.reading.receive_gate {
            ReceiveGate::ClosedUntil(until) => Some(until),
            _ => None,
        };
        [self.next_deadline(state), state.calls_due(), gate].into_iter().flatten().min()
    }

    /// Whether reading is paused: the peer does not read, or received packets wait.
    fn is_receive_paused(&self, state: &State) -> bool {
        state.is_paused(self) || state.is_gate_closed()
    }

    /// Wakes the task that drives the session to check its timers.
    pub(crate) fn notify_task(&self) {
        self.with(State::notify);
    }

    /// Does the same, unless another thread has the lock. Returns whether it was done.
    pub(crate) fn try_notify_task(&self) -> bool {
        self.try_with(State::notify).is_some()
    }

    /// Returns `Ready` when the calls that outlive the session have been served.
    pub(crate) fn poll_drained(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.lock();
        if state.incoming.served.is_empty() {
            return Poll::Ready(());
        }
        keep_waker(&mut state.incoming.standby, waker);
        Poll::Pending
    }

    /// Drops the calls that outlive the session, as no task will serve them. Each of them keeps the session alive.
    pub(crate) fn drop_calls(&self) {
        let (served, ready) =
            self.with(|state| (mem::take(&mut state.incoming.served), mem::take(&mut state.incoming.ready)));
        served.iter().for_each(|(_, served)| served.call.cancel());
        // Dropping them may run the program's code, which may use this session.
        drop((served, ready));
    }

    /// Flushes queued answers. The last one is written at once: no later answer shares its write.
    pub(crate) fn flush_answers(&self) {
        self.with(|state| {
            if state.incoming.served.is_empty() {
                state.flush(self);
            } else {
                state.flush_soon(self);
            }
        });
    }

    /// Returns `Ready` when the caller does not wait for the answer to `id` any longer.
    pub(crate) fn poll_cancelled(&self, id: CallId, waker: &Waker) -> Poll<()> {
        self.with(|state| match state.incoming.served.get_mut(id) {
            Some(served) if !served.call.is_cancelled() => {
                keep_waker(&mut served.cancelled, waker);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }
}

impl State {
    fn notify(&mut self) {
        self.unlocked.is_notified = true;
        self.wake_standby();
    }

    fn has_incoming(&self) -> bool {
        !self.incoming.ready.is_empty() || (self.reading.has_shared_buffer && !self.is_gate_closed())
    }

    fn is_gate_closed(&self) -> bool {
        matches!(self.reading.receive_gate, ReceiveGate::ClosedUntil(_))
    }

    /// Whether the next packet waits until a call has ended.
    fn waits_for_an_end(&mut self, context: &SessionContext) -> bool {
        if self.reading.receive_gate == ReceiveGate::Open && self.connection.is_full() {
            let until = context.admission.now().checked_add(GATE_TIMEOUT);
            self.reading.receive_gate = until.map_or(ReceiveGate::Passed, ReceiveGate::ClosedUntil);
        }
        self.is_gate_closed()
    }

    /// Hands out packets until there is an incoming call. Without a call, all packets or one portion were handed out:
    /// other waiters for the session get the lock first.
    fn pull_call(&mut self, context: &SessionContext) -> Option<IncomingCall> {
        if !self.reading.has_shared_buffer {
            return None;
        }
        for count in 0..=EVENTS_PER_LOCK {
            if count >= EVENTS_PER_LOCK || self.waits_for_an_end(context) {
                return None;
            }
            let Some(event) = self.next_event() else { break };
            let incoming = self.handle_event(context, event);
            if incoming.is_some() {
                return incoming;
            }
        }
        self.count_dropped(context);
        self.return_read_buffer();
        self.check_receive_rate(context, self.reading.arrived, self.keepalive.heard());
        self.wake_eligible();
        None
    }
}

/// How long packets wait for the end of a call when the concurrency limit is reached.
const GATE_TIMEOUT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::ResultForm;
    use crate::session::end::End;
    use crate::session::reading::Reader;
    use crate::session::testing::{Ends, call};

    /// A runtime may be dropped while a one-way call is with its handler.
    #[test]
    fn a_session_is_dropped_with_its_task_whatever_outlives_its_end() {
        let mut ends = Ends::server(Reader::None);
        for _ in 0..2 {
            ends.peer.call(call("note", &(), ResultForm::OneWay)).unwrap();
        }
        ends.deliver();
        let begun = ends.session.take_incoming().unwrap();
        ends.session.close(End::Closed);
        assert!(!ends.session.is_over());
        ends.session.drop_calls();
        assert!(begun.call.is_cancelled());
        let session = Arc::downgrade(&ends.session);
        drop((ends, begun));
        assert!(session.upgrade().is_none());
    }

    /// Nothing between a task's snapshot and its parking wakes it, so parking must find it.
    #[test]
    fn a_task_does_not_park_while_a_call_ends_before_it_checks_its_timers() {
        let Ends { session, socket: _socket, .. } = Ends::client(Reader::Task, 8);
        let found = session.snapshot();
        let now = Instant::now();
        let (sooner, later) = (now + Duration::from_secs(1), now + Duration::from_secs(15));
        assert!(session.park(Waker::noop(), &found, Some(later)));

        let found = session.snapshot();
        let work = call("work", &(), ResultForm::Result);
        let _calling = session.begin_copied(&work, None, Some(sooner), Waker::noop()).unwrap().unwrap();
        assert!(!session.park(Waker::noop(), &found, Some(later)));
        assert!(!session.park(Waker::noop(), &found, None));
        assert!(session.park(Waker::noop(), &session.snapshot(), Some(sooner)));
    }

    #[test]
    fn a_task_does_not_park_while_it_does_not_wait_for_a_full_socket() {
        let Ends { session, socket: _socket, .. } = Ends::client(Reader::Task, 8);
        let found = session.snapshot();
        let later = Some(Instant::now() + Duration::from_secs(3600));
        let _calling = session.begin(call("work", &"x".repeat(4 << 20), ResultForm::Result)).unwrap();
        // Flushing goes on in portions until the socket is full.
        while !session.is_blocked() {
            session.flush();
        }
        assert!(!session.park(Waker::noop(), &found, later));
        // The next snapshot waits for the socket, and for the peer that may never read.
        let found = session.snapshot();
        assert!(!session.park(Waker::noop(), &found, later));
        assert!(session.park(Waker::noop(), &found, found.due));
    }
}

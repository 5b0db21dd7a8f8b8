//! One session without its waits: what can be read and written at once is, and what comes of it is handed to those who
//! wait for it (PB-PKT-*, PB-FLT-*, PB-BYE-*).
//!
//! Any number of threads or tasks use a link at a time. One of them reads, whoever has the [seat](Link::take_seat); each
//! writes what is queued. None waits here: who has to leaves a waker, and waits in the manner of its face.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, CallTable, Codec, Connection, Misuse, Terms};

use crate::admission::Admission;
use crate::journal::Matter;
use crate::pace::Pace;
use crate::peer::Peer;
use crate::session::calling::{Slot, remember};
use crate::session::pulse::{Beat, Pulse, Rhythm};
use crate::session::serving::Work;
use crate::session::spin::Spin;
use crate::session::state::{End, Hold, Seat, State};
use crate::session::writing::Flushed;
use crate::socket::{self, Read, Socket};

/// One session.
pub(crate) struct Link {
    socket: Arc<dyn Socket>,
    pub(crate) peer: Peer,
    /// The limits under which the peer's calls are served.
    pub(crate) admission: Arc<Admission>,
    /// Blocking face: how long the system waits for what arrives, in microseconds; 0 before it was told.
    pub(crate) wait_limit: AtomicU64,
    /// Blocking face: whether somebody looks after the streams that are open.
    pub(crate) ticked: AtomicBool,
    /// Blocking face: whether a thread of its own writes what the socket has not taken.
    pub(crate) has_writer: AtomicBool,
    /// Async face: the runtime of the task that ends calls whose time is over. 0 if nobody does, but who waits for them.
    #[cfg(feature = "tokio")]
    pub(crate) clock: AtomicU64,
    /// Blocking face: how the socket is looked at before it is waited for.
    pub(crate) spin: Spin,
    /// Whether no new calls can begin; for who has not got the state.
    is_shut: AtomicBool,
    state: Mutex<State>,
}

/// Why a call could not begin on a session.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The session takes no more calls; another one may. Nothing was sent.
    Gone,
    /// No session would take it.
    Misuse(Misuse),
    /// It was given up while it waited for its turn.
    Cancelled,
}

impl Link {
    /// A session that `connection` has become. `opening` is the call that opened it, if it waits for an answer.
    pub(crate) fn new(
        connection: Connection,
        socket: Arc<dyn Socket>,
        peer: Peer,
        admission: Arc<Admission>,
        opening: Option<CallId>,
        seat: Seat,
        hold: Hold,
    ) -> Arc<Self> {
        let mut calls = CallTable::default();
        if let Some(id) = opening {
            calls.insert(id, Slot::default());
        }
        let state = State {
            connection,
            calls,
            serving: CallTable::default(),
            ready: VecDeque::new(),
            seat,
            attendant: None,
            alarm: None,
            written: Vec::new(),
            wake: Vec::new(),
            note: None,
            pulse: Pulse::new(admission.now()),
            due: None,
            #[cfg(feature = "tokio")]
            is_rung: false,
            pace: None,
            queue: None,
            is_unsubscribed: false,
            blocked: None,
            crowded: false,
            is_left: false,
            is_offered: false,
            is_awaited: false,
            is_wide: false,
            has_buffer: true,
            #[cfg(feature = "tokio")]
            is_in_room: false,
            #[cfg(feature = "tokio")]
            arrived: 0,
            broken: None,
            end: None,
            hold,
        };
        let spin = Spin::new(admission.config.spin);
        let link = Arc::new(Self {
            spin,
            socket,
            peer,
            admission,
            wait_limit: AtomicU64::new(0),
            ticked: AtomicBool::new(false),
            has_writer: AtomicBool::new(false),
            is_shut: AtomicBool::new(false),
            #[cfg(feature = "tokio")]
            clock: AtomicU64::new(0),
            state: Mutex::new(state),
        });
        link.with(|state| {
            state.digest(&link);
            // What has arrived whole is from now on held by its call.
            state.hold.count(&state.connection);
        });
        link
    }

    pub(super) fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// Does `work` with the state. What is the program's comes afterwards, when the state has been let go: wakers, and its
    /// log, which may do anything with this session.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = work(&mut state);
        let (wake, note) = (mem::take(&mut state.wake), state.note.take());
        if !state.is_open() {
            self.is_shut.store(true, Ordering::Release);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if let Some(note) = note {
            let (matter, what) = *note;
            self.admission.journal.write(matter, || format!("{}: {what}", self.peer));
        }
        done
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new calls can begin here.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_shut.load(Ordering::Acquire)
    }

    /// Why the session is over, if it is.
    pub(crate) fn end_reason(&self) -> Option<End> {
        self.lock().end.as_deref().cloned()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Whether the session has ended, and so have the calls that go on after that.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.has_ended() && state.serving.is_empty()
    }

    /// What the peer said of itself.
    pub(crate) fn peer_terms(&self) -> Option<Terms> {
        self.lock().connection.peer().cloned()
    }

    /// Whether the peer can read what is compressed with `codec`.
    pub(crate) fn reads(&self, codec: Codec) -> bool {
        self.lock().connection.peer().is_some_and(|terms| terms.codecs().contains(codec))
    }

    /// Whether the peer may still be sending, and has not heard why the session is over.
    pub(crate) fn must_linger(&self) -> bool {
        matches!(self.lock().end.as_deref(), Some(End::Protocol(_)))
    }

    /// Whether the socket takes no more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().blocked.is_some()
    }

    /// Nothing happens in the session for now, and nobody reads it.
    pub(crate) fn shrink(&self) {
        self.lock().shrink();
    }

    /// Takes note that the session was looked at.
    pub(crate) fn look(&self) {
        self.lock().pulse.look(self.admission.now());
    }

    /// Whether nobody has looked at the session for so long before `now`.
    pub(crate) fn is_unseen(&self, now: Instant, limit: Duration) -> bool {
        let state = self.lock();
        state.seat != Seat::Driven && now.saturating_duration_since(state.pulse.seen()) > limit
    }

    /// Whether calls of ours are in flight.
    pub(crate) fn is_calling(&self) -> bool {
        !self.lock().calls.is_empty()
    }

    /// Whether a task reads here for all.
    pub(crate) fn is_driven(&self) -> bool {
        self.lock().seat == Seat::Driven
    }

    /// Whether nothing is to be read for now, because the peer has not read what it was sent. Only who accepted the
    /// session does that: if both did, both could wait for the other for ever.
    pub(crate) fn is_reading_paused(&self) -> bool {
        self.is_paused(&self.lock())
    }

    pub(super) fn is_paused(&self, state: &State) -> bool {
        state.connection.queued() > PAUSE && state.blocked.is_some() && !self.admission.is_client
    }

    /// Takes the seat of the one who reads, if it is free; else `waker` is told when it may be, or when there is
    /// something to serve.
    pub(crate) fn take_seat(&self, attendant: Option<&Waker>) -> bool {
        let mut state = self.lock();
        let is_free = state.seat == Seat::Free && state.end.is_none();
        if is_free {
            state.seat = Seat::Taken;
            state.is_offered = false;
        } else if let Some(waker) = attendant {
            state.attendant = Some(waker.clone());
        }
        is_free
    }

    /// Leaves the seat, and tells one of those who wait that it is free. `own` is the waker of who leaves it and waits no
    /// longer.
    pub(crate) fn leave_seat(&self, own: Option<&Waker>) {
        self.with(|state| {
            state.leave_seat();
            state.offer_seat(self, own);
        });
    }

    /// Tells one of those who wait that the seat is free, if it is: whoever was told before does not want it.
    pub(crate) fn pass_seat(&self, own: Option<&Waker>) {
        self.with(|state| state.offer_seat(self, own));
    }

    /// Has `waker` told when there is something to serve, or the session is over.
    pub(crate) fn attend(&self, waker: &Waker) {
        remember(&mut self.lock().attendant, waker);
    }

    /// Has `waker` told whenever the socket takes no more.
    pub(crate) fn set_alarm(&self, waker: Waker) {
        self.lock().alarm = Some(waker);
    }

    /// The buffer to read into; to be given back with [`took`](Self::took).
    pub(crate) fn lend_buffer(&self) -> Vec<u8> {
        self.lock().lend_buffer()
    }

    /// Takes in what was read.
    pub(crate) fn took(self: &Arc<Self>, buffer: Vec<u8>, read: io::Result<Read>) {
        let now = self.admission.now();
        self.with(|state| {
            state.give_back(buffer);
            state.took(self, read, now);
        });
    }

    /// Reads what has arrived, without waiting, and tells whether there was anything.
    pub(crate) fn read(self: &Arc<Self>, mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>) -> bool {
        self.with(|state| {
            if state.end.is_some() {
                return false;
            }
            state.has_buffer = true;
            let read = read(state.connection.read_buffer());
            if matches!(read, Ok(Read::Nothing)) {
                state.drop_buffer(usize::MAX);
                return false;
            }
            state.took(self, read, self.admission.now());
            true
        })
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&self) -> Flushed {
        self.with(|state| state.flush(self))
    }

    /// Ready when nothing that was queued waits for the socket any longer; false if the session ended first.
    pub(crate) fn poll_written(&self, waker: &Waker) -> Poll<bool> {
        self.with(|state| {
            if state.is_left {
                state.flush(self);
            }
            if state.end.is_some() || state.broken.is_some() {
                return Poll::Ready(state.connection.transmit().is_empty());
            }
            if state.blocked.is_none() {
                return Poll::Ready(true);
            }
            if !state.written.iter().any(|known| known.will_wake(waker)) {
                state.written.push(waker.clone());
            }
            Poll::Pending
        })
    }

    /// Takes the next of the peer's calls that nobody has begun to serve.
    pub(crate) fn next_work(&self) -> Option<Work> {
        self.lock().ready.pop_front()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.lock().ready.is_empty()
    }

    /// Says that no more calls are taken; those in flight go on.
    pub(crate) fn goodbye(&self, reason: &str) {
        self.with(|state| {
            state.connection.goodbye(reason);
            state.flush(self);
            state.call_up();
        });
    }

    /// Ends the session for a reason of this side.
    pub(crate) fn close(&self, end: End) {
        self.with(|state| state.end(&self.socket, end));
    }

    /// When the session ends unless the peer takes something of what is written.
    fn stalled(&self, state: &State) -> Option<Instant> {
        state.blocked.and_then(|since| since.checked_add(self.admission.config.write_timeout))
    }

    /// When the session ends unless the peer reads, or goes on sending what it has begun.
    pub(super) fn due(&self, state: &State) -> Option<Instant> {
        [self.stalled(state), state.pace.as_deref().map(Pace::deadline)].into_iter().flatten().min()
    }

    fn rhythm(&self) -> Rhythm {
        let config = &self.admission.config;
        let idle = config.session_idle.filter(|_| matches!(self.peer, Peer::Tcp(_)));
        Rhythm { heartbeat: config.heartbeat, idle }
    }

    /// Does what is due at `now`, and tells when something will be.
    pub(crate) fn beat(&self, now: Instant) -> Option<Instant> {
        self.with(|state| {
            state.drop_buffer(usize::MAX);
            self.beat_with(state, now)
        })
    }

    /// The same for who has the state, and is about to read.
    pub(super) fn beat_with(&self, state: &mut State, now: Instant) -> Option<Instant> {
        if state.end.is_some() {
            return None;
        }
        let is_stalled = |state: &State| self.stalled(state).is_some_and(|stalled| stalled <= now);
        if is_stalled(state) {
            // It may have begun to take more while this process was asleep.
            state.flush(self);
        }
        if is_stalled(state) {
            state.note = Some(Box::new((Matter::Write, "takes nothing".into())));
            state.end(&self.socket, End::Stalled);
            return None;
        }
        if self.is_paused(state) {
            // It is not the peer that is slow to send.
            state.pace = None;
        }
        let late = state.pace.as_deref().map(Pace::deadline);
        if late.is_some_and(|late| late <= now) {
            let why = "a request did not arrive in time (min_rate)";
            state.note = Some(Box::new((Matter::Refused, why.into())));
            state.connection.goodbye(why);
            state.flush(self);
            state.end(&self.socket, End::Closed);
            return None;
        }
        let in_flight = !state.calls.is_empty() || !state.serving.is_empty();
        let (mut beat, mut next) = state.pulse.beat(now, self.rhythm(), in_flight);
        if beat == Beat::Dead && socket::has_input(&self.socket) {
            // What is there and was not read yet is a sign of life too.
            state.pulse.hear(now);
            (beat, next) = state.pulse.beat(now, self.rhythm(), in_flight);
        }
        match beat {
            Beat::Nothing => {}
            Beat::Ping => {
                state.connection.ping();
                state.flush(self);
            }
            Beat::Dead => {
                // It may be about to call: a program without a thread that reads answers no PING.
                state.connection.goodbye("no sign of life");
                state.flush(self);
                state.end(&self.socket, End::Silent);
            }
            Beat::Idle => {
                state.connection.goodbye("idle");
                state.flush(self);
            }
        }
        let spare = state.drop_spare(now);
        let calls = state.expire_calls(self, now);
        [next, self.due(state), spare, calls].into_iter().flatten().min()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Nothing more is read from a peer that has this many bytes of answers to read.
const PAUSE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::request::Form;
    use crate::session::testing::{Ends, call};

    #[test]
    fn a_peer_that_says_nothing_is_given_up() {
        let Ends { link, socket: _socket, .. } = Ends::client(Seat::Free, 8);
        let _waiting = link.begin(call("work", &(), Form::Result)).unwrap();
        let heartbeat = link.admission.config.heartbeat.unwrap();
        let start = Instant::now();
        for count in 1..=3 {
            assert!(!link.has_ended());
            link.beat(start + count * heartbeat + Duration::from_secs(1));
        }
        assert!(matches!(link.end_reason(), Some(End::Silent)), "{:?}", link.end_reason());
    }

    #[test]
    fn what_was_sent_and_not_read_yet_is_a_sign_of_life() {
        let Ends { link, mut peer, mut socket } = Ends::client(Seat::Free, 8);
        let heartbeat = link.admission.config.heartbeat.unwrap();
        let start = Instant::now();
        let beat = |count| link.beat(start + count * heartbeat + Duration::from_secs(1));
        beat(1);
        beat(2);
        peer.ping();
        socket.write_all(peer.transmit()).unwrap();
        assert!(beat(3) > Some(start + 4 * heartbeat));
        for count in 4..7 {
            beat(count);
        }
        // It is still there: nobody reads.
        assert!(link.is_open());
    }

    #[test]
    fn a_peer_that_has_begun_to_take_what_is_written_is_not_given_up() {
        let Ends { link, mut socket, .. } = Ends::client(Seat::Free, 8);
        link.notify(call("large", &"x".repeat(8 << 20), Form::OneWay)).unwrap();
        assert!(link.is_blocked());
        let limit = link.admission.config.write_timeout;
        let mut bytes = vec![0; 64 << 10];
        assert!(socket.read(&mut bytes).unwrap() > 0);
        link.beat(Instant::now() + limit);
        assert!(!link.has_ended());
        // The other way round the socket is full again.
        link.beat(Instant::now() + 2 * limit);
        assert!(matches!(link.end_reason(), Some(End::Stalled)));
    }
}

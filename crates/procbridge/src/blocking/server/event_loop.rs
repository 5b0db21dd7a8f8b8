//! The one thread that waits for everybody who is slow: requests that arrive in pieces, peers that still send after
//! their answer, handlers that run past their time. No thread of its own is spent on any of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use crate::blocking::server::connection::{ServerConnection, WaitUntil};
use crate::classic::server::LINGER_BYTES;
use crate::limits::admission::Admission;
use crate::limits::permits::Permit;
use crate::net::socket::Socket;
use crate::reply_error::{self, Refusal};
use crate::session::Session;

/// The way to the poller's thread.
#[derive(Debug)]
pub(in crate::blocking) struct EventLoop {
    inbox: Mutex<Inbox>,
    bell: Arc<EventLoopWaker>,
    clock: Instant,
    /// When the poller will look at the clock by itself, in microseconds of its own clock.
    planned: AtomicU64,
}

/// What was handed over and is not waited for yet.
#[derive(Debug, Default)]
struct Inbox {
    entries: Vec<Entry>,
    /// Whether nobody will look here any more.
    is_closed: bool,
}

/// Wakes the poller.
#[derive(Debug)]
struct EventLoopWaker {
    event: OwnedFd,
}

impl Wake for EventLoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when the counter is full, and then the poller is awake.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

/// A connection that is waited for.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most entries are requests; boxing them would cost each a second allocation"
)]
pub(in crate::blocking) enum Entry {
    /// Its request has not arrived, as far as is known: a server that stops looks once more, and until then the share
    /// keeps it from ending.
    Request(ServerConnection, Option<Permit>),
    /// It has its answer; what it still sends is dropped until it ends.
    Lingering(Lingering),
}

#[derive(Debug)]
pub(in crate::blocking) struct Lingering {
    pub(in crate::blocking) socket: Arc<dyn Socket>,
    deadline: Option<Instant>,
    /// Bytes that may still come.
    pub(in crate::blocking) bytes_left: usize,
    _place: Option<Permit>,
    _waiting: Permit,
}

impl EventLoop {
    pub(in crate::blocking) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (bell, clock) = (Arc::new(EventLoopWaker { event }), Instant::now());
        Ok(Self { inbox: Mutex::default(), bell, clock, planned: AtomicU64::new(0) })
    }

    /// Makes the poller look again at what it waits for.
    pub(in crate::blocking) fn wake(&self) {
        self.bell.wake_by_ref();
    }

    pub(in crate::blocking) fn waker(&self) -> Waker {
        Waker::from(self.bell.clone())
    }

    /// Makes the poller look at the clock at `time`, if it would not before. What it is to find is stored `SeqCst`, or under
    /// a lock that it takes.
    pub(in crate::blocking) fn wake_by(&self, time: Instant) {
        let time = self.micros(time);
        // Usually it will: then its line of memory is left alone.
        if self.planned.load(Ordering::SeqCst) > time && self.planned.fetch_min(time, Ordering::AcqRel) > time
        {
            self.wake();
        }
    }

    fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Hands over a connection whose request has not arrived.
    pub(in crate::blocking) fn wait_for_request(
        &self,
        admission: &Admission,
        connection: ServerConnection,
        arriving: Option<Permit>,
    ) {
        self.enter(admission, Entry::Request(connection, arriving));
    }

    /// Hands over a connection that was answered and may still be sending.
    pub(in crate::blocking) fn linger(&self, admission: &Admission, connection: ServerConnection) {
        if let Some(entry) = Entry::lingering(admission, connection) {
            self.enter(admission, entry);
        }
    }

    /// Hands over a session that has ended and may still be sending.
    pub(in crate::blocking) fn linger_session(&self, admission: &Admission, session: Arc<Session>) {
        if let Some(entry) = Entry::lingering_session(admission, session) {
            self.enter(admission, entry);
        }
    }

    fn enter(&self, admission: &Admission, entry: Entry) {
        let mut inbox = self.inbox();
        if !inbox.is_closed {
            inbox.entries.push(entry);
            drop(inbox);
            return self.wake();
        }
        drop(inbox);
        // The server has ended while this one was on its way here.
        if let Entry::Request(mut connection, _) = entry {
            connection.refuse(admission, &reply_error::stopping());
            connection.write(admission, WaitUntil::None);
        }
    }

    /// Moves what was handed over to `entries`.
    pub(in crate::blocking) fn take_entries(&self, entries: &mut Vec<Entry>) {
        entries.append(&mut self.inbox().entries);
    }

    /// Lets nothing in any more, unless something was handed over meanwhile. Tells whether that was so.
    pub(in crate::blocking) fn close(&self) -> bool {
        let mut inbox = self.inbox();
        inbox.is_closed = inbox.entries.is_empty();
        inbox.is_closed
    }

    /// Begins a look at everything: a thread that asks for a look from here on wakes the loop, or is heard by
    /// [`plan`](Self::plan). What such a thread stores is in one order with this.
    pub(in crate::blocking) fn begin_look(&self) {
        self.planned.store(u64::MAX, Ordering::SeqCst);
    }

    /// Plans the next look for `deadline`, or for the sooner one that was asked for since the last began. Returns when
    /// that is.
    pub(in crate::blocking) fn plan(&self, deadline: Option<Instant>) -> Option<Instant> {
        let planned = deadline.map_or(u64::MAX, |deadline| self.micros(deadline));
        let asked = self.planned.fetch_min(planned, Ordering::AcqRel).min(planned);
        (asked < u64::MAX).then(|| self.clock + Duration::from_micros(asked))
    }

    /// Returns the descriptor that is readable once the loop was woken.
    pub(in crate::blocking) fn event(&self) -> &OwnedFd {
        &self.bell.event
    }

    /// Forgets that the loop was woken.
    pub(in crate::blocking) fn reset_event(&self) {
        let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A connection that lingers is one that the server waits for, and needs a place among them; without one it is
    /// closed at once.
    fn lingering(admission: &Admission, mut connection: ServerConnection) -> Option<Self> {
        let waiting = connection.waiting.take();
        let waiting = waiting.or_else(|| admission.waiting(&connection.incoming.peer).ok())?;
        let deadline = Instant::now().checked_add(admission.config.linger_timeout);
        let (socket, permit) = (Arc::new(connection.stream), Some(connection.permit));
        let bytes_left = LINGER_BYTES;
        Some(Self::Lingering(Lingering { socket, deadline, bytes_left, _place: permit, _waiting: waiting }))
    }

    /// The same with an earlier end.
    pub(in crate::blocking) fn until(mut self, end: Instant) -> Self {
        if let Self::Lingering(Lingering { deadline, .. }) = &mut self {
            *deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
        }
        self
    }

    /// The same for a session that has been told why it is over.
    fn lingering_session(admission: &Admission, session: Arc<Session>) -> Option<Self> {
        let waiting = admission.waiting(&session.peer).ok()?;
        let deadline = Instant::now().checked_add(admission.config.linger_timeout);
        let bytes_left = LINGER_BYTES;
        Some(Self::Lingering(Lingering {
            socket: session,
            deadline,
            bytes_left,
            _place: None,
            _waiting: waiting,
        }))
    }

    pub(in crate::blocking) fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Request(connection, _) => connection.stream.as_fd(),
            Self::Lingering(lingering) => lingering.socket.as_fd(),
        }
    }

    pub(in crate::blocking) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Request(connection, _) => Some(connection.deadline()),
            Self::Lingering(lingering) => lingering.deadline,
        }
    }

    pub(in crate::blocking) fn refuse(
        admission: &Admission,
        mut connection: ServerConnection,
        refusal: &Refusal,
    ) -> Option<Self> {
        connection.refuse(admission, refusal);
        Self::finish(admission, connection)
    }

    /// Writes what is queued; a short answer fits the socket's buffer, and a peer that fills it is not waited for.
    pub(in crate::blocking) fn finish(
        admission: &Admission,
        mut connection: ServerConnection,
    ) -> Option<Self> {
        if connection.write(admission, WaitUntil::None) {
            Self::lingering(admission, connection)
        } else {
            None
        }
    }
}

//! The event loop: one thread that waits for all slow peers and calls. These are requests that arrive in parts, peers
//! that still send after their answer, and handlers past their deadline. None of them takes a thread of its own.

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
use crate::reply_error::{self, ReplyError};
use crate::session::Session;

/// A handle to the thread of the event loop.
#[derive(Debug)]
pub(in crate::blocking) struct EventLoop {
    inbox: Mutex<Inbox>,
    waker: Arc<EventLoopWaker>,
    clock: Instant,
    /// When the loop reads the clock next without being woken, in microseconds of its own clock.
    planned: AtomicU64,
}

/// Entries that were handed over and are not polled yet.
#[derive(Debug, Default)]
struct Inbox {
    entries: Vec<Entry>,
    /// Whether the loop has ended and takes no more entries.
    is_closed: bool,
}

/// The waker of the event loop.
#[derive(Debug)]
struct EventLoopWaker {
    event: OwnedFd,
}

impl Wake for EventLoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The write fails only if the counter is full; the loop is awake then.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

/// A connection that the event loop waits for.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most entries are requests; boxing them would cost each a second allocation"
)]
pub(in crate::blocking) enum Entry {
    /// A connection whose request has not arrived, as far as is known. A stopping server reads it once more; until then
    /// the permit keeps the server from ending.
    Request(ServerConnection, Option<Permit>),
    /// An answered connection; what its peer still sends is dropped until the peer closes it.
    Lingering(Lingering),
}

#[derive(Debug)]
pub(in crate::blocking) struct Lingering {
    pub(in crate::blocking) socket: Arc<dyn Socket>,
    deadline: Option<Instant>,
    /// How many bytes may still arrive.
    pub(in crate::blocking) bytes_left: usize,
    _permit: Option<Permit>,
    _waiting: Permit,
}

impl EventLoop {
    pub(in crate::blocking) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (waker, clock) = (Arc::new(EventLoopWaker { event }), Instant::now());
        Ok(Self { inbox: Mutex::default(), waker, clock, planned: AtomicU64::new(0) })
    }

    /// Wakes the loop, which checks all its entries again.
    pub(in crate::blocking) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(in crate::blocking) fn waker(&self) -> Waker {
        Waker::from(self.waker.clone())
    }

    /// Makes the loop check at `time`, unless it will before. The caller must have stored what the loop is to find with
    /// `SeqCst`, or under a lock that the loop takes.
    pub(in crate::blocking) fn wake_by(&self, time: Instant) {
        let time = self.micros(time);
        // Usually it will; then this cache line is not written.
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
        // The server ended while the connection was being handed over.
        if let Entry::Request(mut connection, _) = entry {
            connection.refuse(admission, &reply_error::stopping());
            connection.write(admission, WaitUntil::None);
        }
    }

    /// Moves what was handed over to `entries`.
    pub(in crate::blocking) fn take_entries(&self, entries: &mut Vec<Entry>) {
        entries.append(&mut self.inbox().entries);
    }

    /// Closes the inbox, unless it has entries. Returns whether it was closed.
    pub(in crate::blocking) fn close(&self) -> bool {
        let mut inbox = self.inbox();
        inbox.is_closed = inbox.entries.is_empty();
        inbox.is_closed
    }

    /// Begins a check of everything. A thread that asks for a check from here on wakes the loop, or
    /// [`plan`](Self::plan) sees it. The store is `SeqCst`, in one order with what such a thread stores.
    pub(in crate::blocking) fn begin_check(&self) {
        self.planned.store(u64::MAX, Ordering::SeqCst);
    }

    /// Plans the next check for `deadline`, or for an earlier time that was asked for since the last one began. Returns
    /// that time.
    pub(in crate::blocking) fn plan(&self, deadline: Option<Instant>) -> Option<Instant> {
        let planned = deadline.map_or(u64::MAX, |deadline| self.micros(deadline));
        let asked = self.planned.fetch_min(planned, Ordering::AcqRel).min(planned);
        (asked < u64::MAX).then(|| self.clock + Duration::from_micros(asked))
    }

    /// Returns the descriptor that is readable once the loop was woken.
    pub(in crate::blocking) fn event(&self) -> &OwnedFd {
        &self.waker.event
    }

    /// Resets the descriptor after the loop was woken.
    pub(in crate::blocking) fn reset_event(&self) {
        let _ = rustix::io::read(&self.waker.event, &mut [0; 8]);
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Makes `connection` linger. That needs a permit of the connections that the server waits for; without one the
    /// connection is closed at once.
    fn lingering(admission: &Admission, mut connection: ServerConnection) -> Option<Self> {
        let waiting = connection.waiting.take();
        let waiting = waiting.or_else(|| admission.waiting(&connection.incoming.peer).ok())?;
        let deadline = Instant::now().checked_add(admission.config.linger_timeout);
        let (socket, permit) = (Arc::new(connection.stream), Some(connection.permit));
        let bytes_left = LINGER_BYTES;
        Some(Self::Lingering(Lingering { socket, deadline, bytes_left, _permit: permit, _waiting: waiting }))
    }

    /// Returns the entry with `end` as its deadline, if that is earlier.
    pub(in crate::blocking) fn until(mut self, end: Instant) -> Self {
        if let Self::Lingering(Lingering { deadline, .. }) = &mut self {
            *deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
        }
        self
    }

    /// Makes a session linger whose peer was sent the reason for its end.
    fn lingering_session(admission: &Admission, session: Arc<Session>) -> Option<Self> {
        let waiting = admission.waiting(&session.peer).ok()?;
        let deadline = Instant::now().checked_add(admission.config.linger_timeout);
        let bytes_left = LINGER_BYTES;
        Some(Self::Lingering(Lingering {
            socket: session,
            deadline,
            bytes_left,
            _permit: None,
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
        refusal: &ReplyError,
    ) -> Option<Self> {
        connection.refuse(admission, refusal);
        Self::finish(admission, connection)
    }

    /// Writes what is queued. A short answer fits the socket's buffer; the loop does not wait for a peer whose buffer
    /// is full.
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

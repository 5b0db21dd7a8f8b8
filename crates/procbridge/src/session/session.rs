//! One session, without blocking: reads and writes what it can at once, and hands what arrives to its waiters
//! (PB-PKT-*, PB-FLT-*, PB-BYE-*).
//!
//! Any number of threads or tasks use a session at a time. One of them reads: the [leader](crate::session::leader), or
//! the task that drives the session. Each writes what it queues. A thread or task that must wait leaves a waker, and
//! waits in the manner of its face.

use std::fmt;
use std::io;
use std::mem;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, CallTable, Codec, Connection, Misuse, Settings};

use crate::limits::admission::Admission;
use crate::net::process::Creator;
use crate::net::socket::{Read, Socket};
use crate::peer::Peer;
use crate::session::call_slot::{Outgoing, Slot};
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::keepalive::Keepalive;
use crate::session::reading::{Reader, Reading};
use crate::session::served_call::{Incoming, IncomingCall, SessionPermits};
use crate::session::spin::Spin;
use crate::session::state::State;
use crate::session::waker::{Unlocked, keep_waker};
use crate::session::writing::Writing;

/// One session.
pub(crate) struct Session {
    context: SessionContext,
    /// The process that made the session: a fork has a copy on the same socket.
    maker: Creator,
    /// Blocking face: the receive timeout set on the socket, in microseconds; 0 before the first.
    pub(crate) wait_limit: AtomicU64,
    /// Blocking face: whether a background thread runs the timers for open streams.
    pub(crate) ticked: AtomicBool,
    /// Blocking face: whether a thread of its own writes what the socket has not taken.
    pub(crate) has_writer: AtomicBool,
    /// Async face: the runtime of the task that ends calls past their deadline. 0 if there is none, and each caller
    /// does it.
    #[cfg(feature = "tokio")]
    pub(crate) clock: AtomicU64,
    /// Blocking face: how long a thread spins before it waits for the socket.
    pub(crate) spin: Spin,
    /// Whether no new calls can begin; readable without the lock.
    is_shut: AtomicBool,
    /// Whether the session and the calls that outlive it have ended; readable without the lock.
    is_over: AtomicBool,
    /// Whether the peer may still be sending and has not read why the session ended; readable without the lock.
    must_linger: AtomicBool,
    state: Mutex<State>,
}

/// Why a call could not begin on a session.
#[derive(Debug)]
pub(crate) enum BeginError {
    /// The session takes no more calls; another session may. Nothing was sent.
    Gone,
    /// No session would take the call.
    Misuse(Misuse),
    /// The call was cancelled while it was queued at the concurrency limit.
    Cancelled,
}

impl Session {
    /// Returns the session that `connection` has become. `opening` is the call that opened it, if it waits for an
    /// answer.
    pub(crate) fn new(
        connection: Connection,
        socket: Arc<dyn Socket>,
        peer: Peer,
        admission: Arc<Admission>,
        opening: Option<CallId>,
        reader: Reader,
        mut permits: SessionPermits,
    ) -> Arc<Self> {
        let account = admission.session(&peer);
        if let Some(bytes) = &mut permits.bytes {
            bytes.transfer_to(&account);
        }
        let mut calls = CallTable::default();
        if let Some(id) = opening {
            calls.insert(id, Slot::default());
        }
        let state = State {
            connection,
            outgoing: Outgoing { calls, deadlines: None, queued: None },
            incoming: Incoming { permits, ..Incoming::default() },
            reading: Reading::new(reader),
            writing: Writing::default(),
            unlocked: Unlocked::default(),
            keepalive: Keepalive::new(admission.now()),
            end: None,
        };
        let spin = Spin::new(admission.config.spin);
        let session = Arc::new(Self {
            spin,
            context: SessionContext { socket, peer, account, admission },
            maker: Creator::this(),
            wait_limit: AtomicU64::new(0),
            ticked: AtomicBool::new(false),
            has_writer: AtomicBool::new(false),
            is_shut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            must_linger: AtomicBool::new(false),
            #[cfg(feature = "tokio")]
            clock: AtomicU64::new(0),
            state: Mutex::new(state),
        });
        session.with(|state| {
            while state.dispatch(&session) {}
            // A request that has fully arrived is counted by its call from here on.
            state.incoming.permits.recount(&state.connection);
        });
        session
    }

    /// Runs `work` under the lock. Wakers, the log and freed memory are handled after the lock is released: they may
    /// call the program, which may use this session.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.with_locked(self.lock(), work)
    }

    /// Does the same, unless another thread has the lock: for threads that serve many sessions.
    pub(crate) fn try_with<T>(&self, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.with_locked(state, work))
    }

    fn with_locked<T>(&self, mut state: MutexGuard<'_, State>, work: impl FnOnce(&mut State) -> T) -> T {
        let done = work(&mut state);
        let (wake, note) = (mem::take(&mut state.unlocked.to_wake), state.unlocked.log_line.take());
        let waste = if state.writing.has_large_buffers { state.connection.take_waste() } else { Vec::new() };
        if !state.is_open() {
            self.is_shut.store(true, Ordering::Release);
            self.is_over.store(state.has_ended() && state.incoming.served.is_empty(), Ordering::Release);
            let must_linger = matches!(state.end.as_deref(), Some(End::Protocol(_)));
            self.must_linger.store(must_linger, Ordering::Release);
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if !waste.is_empty() {
            (self.admission.discard)(waste);
        }
        if let Some(note) = note {
            let (class, what) = *note;
            self.admission.log.write(class, || format!("{}: {what}", self.peer));
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

    /// Returns why the session is over, if it is.
    pub(crate) fn end_reason(&self) -> Option<End> {
        self.lock().end.as_deref().cloned()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Whether the session has ended, and so have the calls that go on after that.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Returns the settings of the peer.
    pub(crate) fn peer_terms(&self) -> Option<Settings> {
        self.lock().connection.peer().cloned()
    }

    /// Whether the peer can decompress `codec`.
    pub(crate) fn reads(&self, codec: Codec) -> bool {
        self.lock().connection.peer().is_some_and(|settings| settings.codecs().contains(codec))
    }

    /// Whether the peer may still be sending and has not read why the session ended.
    pub(crate) fn must_linger(&self) -> bool {
        self.must_linger.load(Ordering::Acquire)
    }

    /// Whether the socket is full.
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().writing.blocked.is_some()
    }

    /// Frees memory of an idle session that no thread reads.
    pub(crate) fn shrink(&self) {
        self.lock().shrink();
    }

    /// Notes that a thread has checked the session just now.
    pub(crate) fn note_seen(&self) {
        self.lock().keepalive.note_seen(self.admission.now());
    }

    /// Whether no thread has checked the session for longer than `limit` before `now`.
    pub(crate) fn is_unseen(&self, now: Instant, limit: Duration) -> bool {
        let state = self.lock();
        state.reading.reader != Reader::Task && now.saturating_duration_since(state.keepalive.seen()) > limit
    }

    /// Whether outgoing calls are in flight.
    pub(crate) fn is_calling(&self) -> bool {
        !self.lock().outgoing.calls.is_empty()
    }

    /// Whether a task drives the session.
    pub(crate) fn is_driven(&self) -> bool {
        self.lock().reading.reader == Reader::Task
    }

    /// Whether reading is paused because the peer does not read what it was sent (backpressure). Only the accepting
    /// side pauses: if both did, each could wait for the other without end.
    pub(crate) fn is_reading_paused(&self) -> bool {
        self.lock().is_paused(self)
    }

    /// Makes the calling thread the leader if there is none. Otherwise registers `standby`, to be woken when there may
    /// be none, or when a call is to be served.
    pub(crate) fn become_leader(&self, standby: Option<&Waker>) -> bool {
        let mut state = self.lock();
        let is_free = state.reading.reader == Reader::None && state.end.is_none();
        if is_free {
            state.reading.reader = Reader::Thread;
            state.reading.is_leader_promoted = false;
        } else if let Some(waker) = standby {
            state.incoming.standby = Some(waker.clone());
        }
        is_free
    }

    /// Steps down as the leader and promotes a follower. `own`: the leaving leader's waker; it is not woken.
    pub(crate) fn step_down(&self, own: Option<&Waker>) {
        self.with(|state| {
            state.clear_reader();
            state.promote_follower(self, own);
        });
    }

    /// Promotes a follower if there is no leader: the thread promoted before does not become it.
    pub(crate) fn hand_over(&self, own: Option<&Waker>) {
        self.with(|state| state.promote_follower(self, own));
    }

    /// Registers the standby: `waker` is woken when a call is to be served, or the session ends.
    pub(crate) fn set_standby(&self, waker: &Waker) {
        keep_waker(&mut self.lock().incoming.standby, waker);
    }

    /// Registers `waker`, which is woken whenever the socket is full.
    pub(crate) fn set_blocked_waker(&self, waker: Waker) {
        self.lock().writing.blocked_waker = Some(waker);
    }

    /// Lends the buffer to read into; return it with [`received`](Self::received).
    pub(crate) fn lend_buffer(&self) -> Vec<u8> {
        self.lock().lend_buffer()
    }

    /// Takes in what was read.
    pub(crate) fn received(self: &Arc<Self>, buffer: Vec<u8>, read: io::Result<Read>) {
        let now = self.admission.now();
        let is_more = self.with(|state| {
            state.give_back(buffer);
            state.received(self, read, now)
        });
        self.dispatch_rest(is_more, now);
    }

    /// Hands out the rest of what was read, if there `is_more`. Other threads get the lock between two portions.
    pub(super) fn dispatch_rest(self: &Arc<Self>, mut is_more: bool, now: Instant) {
        while is_more {
            thread::yield_now();
            is_more = self.with(|state| state.receive_more(self, now));
        }
    }

    /// Reads what has arrived, without waiting, and tells whether there was anything.
    pub(crate) fn read(self: &Arc<Self>, mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>) -> bool {
        let now = self.admission.now();
        let (is_something, is_more) = self.with(|state| {
            if state.end.is_some() {
                return (false, false);
            }
            state.reading.has_buffer = true;
            let read = read(state.connection.read_buffer());
            if matches!(read, Ok(Read::Nothing)) {
                state.drop_buffer(usize::MAX);
                return (false, false);
            }
            (true, state.received(self, read, now))
        });
        self.dispatch_rest(is_more, now);
        is_something
    }

    /// Takes the next incoming call that no handler has begun to serve.
    pub(crate) fn take_incoming(&self) -> Option<IncomingCall> {
        self.lock().incoming.ready.pop_front()
    }

    pub(crate) fn has_incoming(&self) -> bool {
        !self.lock().incoming.ready.is_empty()
    }

    /// Whether this is a fork's copy of another process's session.
    pub(crate) fn was_forked(&self) -> bool {
        !self.maker.is_this()
    }

    /// Sends a goodbye: no more calls are taken, and those in flight go on.
    pub(crate) fn goodbye(&self, reason: &str) {
        if self.was_forked() {
            return;
        }
        self.with(|state| {
            state.connection.goodbye(reason);
            state.flush(self);
            state.wake_eligible();
        });
    }

    /// Ends the session for a reason of this side.
    pub(crate) fn close(&self, end: End) {
        if self.was_forked() {
            return;
        }
        self.with(|state| state.end(&self.socket, end));
    }
}

impl Deref for Session {
    type Target = SessionContext;

    fn deref(&self) -> &SessionContext {
        &self.context
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.context.socket.as_fd()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::client::connections::Connections;
    use crate::session::testing::Ends;

    #[test]
    fn a_forks_copy_of_a_session_neither_says_goodbye_nor_shuts_the_socket_down() {
        let mut ends = Ends::client(Reader::None, 8);
        Arc::get_mut(&mut ends.session).unwrap().maker = Creator::other();
        ends.session.goodbye("the copy is done");
        ends.session.close(End::Closed);
        ends.socket.set_nonblocking(true).unwrap();
        let error = ends.socket.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        let current = Connections::new(16);
        assert!(current.install(&ends.session, || true));
        current.forget(&ends.session);
        assert!(current.session().is_none());
    }
}

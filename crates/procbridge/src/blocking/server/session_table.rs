//! The sessions of a server, with what is known of each: whether its handlers are quick, and whether a thread reads it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::blocking::thread_pool::ThreadPool;
use crate::limits::admission::Whose;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::eviction::Eviction;

/// One session of a server.
#[derive(Debug)]
pub(in crate::blocking) struct ServedSession {
    pub(in crate::blocking) session: Arc<Session>,
    /// The number of the current thread that serves it; a thread with an earlier number stops serving.
    pub(in crate::blocking) thread_number: AtomicU32,
    /// When the serving thread began to run a handler, in microseconds of the server's clock; 0 if none runs.
    pub(in crate::blocking) since: AtomicU64,
    /// Until when each call gets a thread, in microseconds of the server's clock.
    pub(in crate::blocking) threads_until: AtomicU64,
    /// Whether the event loop watches it.
    pub(in crate::blocking) watched: AtomicBool,
}

/// All sessions of a server.
#[derive(Debug)]
pub(in crate::blocking) struct SessionTable {
    pub(in crate::blocking) list: Mutex<Vec<Arc<ServedSession>>>,
    pub(in crate::blocking) clock: Instant,
    /// Whether a handler has run since the event loop last checked.
    pub(in crate::blocking) active: AtomicBool,
    /// How many checks have found no handler since then.
    pub(in crate::blocking) quiet: AtomicU32,
    /// The interval between checks while calls come, in microseconds.
    pub(in crate::blocking) pause: AtomicU64,
    pub(in crate::blocking) pool: ThreadPool,
    pub(in crate::blocking) eviction: Eviction,
}

impl ServedSession {
    /// Whether it has ended while no thread serves it, and its peer must learn why. A handler that reads as the leader
    /// may find that the peer breaks the protocol.
    pub(in crate::blocking) fn is_left(&self) -> bool {
        self.watched.load(Ordering::Acquire) && self.session.must_linger()
    }
}

impl SessionTable {
    pub(in crate::blocking) fn new() -> Self {
        Self {
            list: Mutex::default(),
            clock: Instant::now(),
            active: AtomicBool::new(false),
            quiet: AtomicU32::new(QUIET_CHECKS),
            pause: AtomicU64::new(FIRST_CHECK_MICROS),
            pool: ThreadPool::default(),
            eviction: Eviction::new(Instant::now()),
        }
    }

    /// Ends the session that has been idle longest, to free its permit for `newcomer`. Returns whether one was ended.
    pub(in crate::blocking) fn evict_idle(&self, newcomer: &Peer, whose: Whose) -> bool {
        let sessions = || self.open().iter().map(|served| served.session.clone()).collect();
        self.eviction.evict_one(newcomer, whose, sessions, Instant::now())
    }

    /// Enters a session.
    pub(in crate::blocking) fn enter(&self, session: Arc<Session>) -> Arc<ServedSession> {
        let served = Arc::new(ServedSession {
            session,
            thread_number: AtomicU32::new(0),
            since: AtomicU64::new(0),
            threads_until: AtomicU64::new(0),
            watched: AtomicBool::new(false),
        });
        self.list().push(served.clone());
        served
    }

    /// Returns all sessions that have not ended, still run one-way calls, or ended unnoticed by any thread. Waits for
    /// no session under the lock of the table.
    pub(in crate::blocking) fn open(&self) -> Vec<Arc<ServedSession>> {
        let mut list = self.list();
        list.retain(|served| !served.session.is_over() || served.is_left());
        list.clone()
    }

    /// Returns the sessions without a thread, with the events they wait for. Also returns when to check the busy ones
    /// again.
    pub(in crate::blocking) fn waiting(&self) -> (Vec<(Arc<ServedSession>, PollFlags)>, Option<Instant>) {
        let (mut waiting, mut again) = (Vec::new(), None);
        for served in self.open() {
            let is_watched = served.watched.load(Ordering::Acquire);
            let Some(wants) = served.session.interest() else {
                again = again.or_else(|| Some(Instant::now() + BUSY_CHECK));
                continue;
            };
            // On a socket that was shut down there is nothing to wait for.
            if wants.has_ended {
                continue;
            }
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, is_watched && !wants.is_reading_paused);
            flags.set(PollFlags::OUT, wants.is_blocked);
            if !flags.is_empty() {
                waiting.push((served, flags));
            }
        }
        (waiting, again)
    }

    pub(in crate::blocking) fn list(&self) -> MutexGuard<'_, Vec<Arc<ServedSession>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the interval between checks.
    pub(in crate::blocking) fn pause(&self) -> Duration {
        Duration::from_micros(self.pause.load(Ordering::Relaxed))
    }

    /// Marks a session as slow at `now`: for a while each of its calls gets a thread.
    pub(in crate::blocking) fn spread(&self, served: &ServedSession, now: Instant) {
        served.threads_until.store(self.micros(now + SLOW_FOR), Ordering::Relaxed);
        self.pause.store(FIRST_CHECK_MICROS, Ordering::Relaxed);
    }

    /// Converts `time` to microseconds of the server's clock; at least 1.
    pub(in crate::blocking) fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Removes a session that has ended. If one-way calls still run, the last of them wakes `waker`, and the next check
    /// of all sessions removes it.
    pub(in crate::blocking) fn let_go(&self, served: &Arc<ServedSession>, waker: &Waker) {
        // Register before checking, or the end of the last call in between is missed.
        served.session.set_standby(waker);
        self.list().retain(|other| !Arc::ptr_eq(other, served) || !other.session.is_over());
    }

    /// Ends the idle threads.
    pub(in crate::blocking) fn close(&self) {
        self.pool.close();
    }
}

/// How long each call of a session gets a thread after a slow handler.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// The first interval between checks when calls begin to come, in microseconds. Each check doubles it.
pub(in crate::blocking) const FIRST_CHECK_MICROS: u64 = 2_000;
/// How many checks without a call before the event loop stops checking.
pub(in crate::blocking) const QUIET_CHECKS: u32 = 4;
/// How soon the event loop checks a session again whose lock another thread has.
pub(in crate::blocking) const BUSY_CHECK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::blocking::serve_call;

    use crate::blocking::router::Router;
    use crate::client::request::ResultForm;
    use crate::session::end::End;
    use crate::session::reading::Reader;
    use crate::session::testing::{Bell, Ends, call};

    #[test]
    fn a_session_that_has_ended_is_let_go_after_its_last_one_way_call() {
        let (sessions, mut ends, (bell, waker)) =
            (SessionTable::new(), Ends::server(Reader::None), Bell::new());
        let served = sessions.enter(ends.session.clone());
        ends.peer.call(call("note", &(), ResultForm::OneWay)).unwrap();
        ends.deliver();
        let begun = ends.session.take_incoming().unwrap();
        ends.session.close(End::Closed);
        sessions.let_go(&served, &waker);
        assert_eq!((bell.woken(), sessions.open().len()), (0, 1));
        serve_call::answer(&Router::new(), &ends.session, &begun, Instant::now());
        assert!(bell.woken() > 0, "no thread checks it again");
        assert!(sessions.open().is_empty());
    }

    #[test]
    fn no_session_is_waited_for_under_the_lock_of_all() {
        let (sessions, ends, other) =
            (SessionTable::new(), Ends::server(Reader::None), Ends::server(Reader::None));
        let served = sessions.enter(ends.session.clone());
        served.watched.store(true, Ordering::Release);
        let (holds, held) = mpsc::channel();
        let (open, door) = mpsc::channel::<()>();
        let session = ends.session.clone();
        let account = thread::spawn(move || {
            session.with(|_| {
                holds.send(()).unwrap();
                let _ = door.recv();
            });
        });
        held.recv().unwrap();
        let (done, receiver) = mpsc::channel();
        let looker = thread::spawn(move || {
            let Ends { session, socket: _socket, .. } = other;
            assert_eq!(sessions.open().len(), 1);
            sessions.enter(session);
            let (waiting, again) = sessions.waiting();
            assert!(waiting.is_empty() && again.is_some());
            assert!(!sessions.evict_idle(&ends.session.peer, Whose::All));
            assert!(ends.session.scan(Instant::now(), None, &Default::default()).is_none());
            ends.session.try_flush();
            done.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for the session");
        open.send(()).unwrap();
        account.join().unwrap();
        looker.join().unwrap();
    }
}

//! The sessions of a server, and what is known of each: whether its handlers are quick, and whether a thread reads it.

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
    /// The turn of the thread that attends to it; whoever had an earlier one is relieved.
    pub(in crate::blocking) turn: AtomicU32,
    /// When the attending thread began to run a handler, in microseconds of the server's clock; 0 when it does not.
    pub(in crate::blocking) since: AtomicU64,
    /// Whether each call gets a thread.
    pub(in crate::blocking) spread: AtomicBool,
    /// Handlers in a row that were quick.
    pub(in crate::blocking) quick: AtomicU32,
    /// Whether the poller watches it.
    pub(in crate::blocking) watched: AtomicBool,
}

/// All sessions of a server.
#[derive(Debug)]
pub(in crate::blocking) struct SessionTable {
    pub(in crate::blocking) list: Mutex<Vec<Arc<ServedSession>>>,
    pub(in crate::blocking) clock: Instant,
    /// Whether a handler has run since the poller last looked.
    pub(in crate::blocking) active: AtomicBool,
    /// How often it has looked since then.
    pub(in crate::blocking) quiet: AtomicU32,
    /// How long after a look the next one comes as long as calls do, in microseconds.
    pub(in crate::blocking) pause: AtomicU64,
    pub(in crate::blocking) pool: ThreadPool,
    pub(in crate::blocking) eviction: Eviction,
}

impl ServedSession {
    /// Whether it has ended while no thread attends to it, and its peer must hear why: a handler that reads for all may find
    /// that the peer breaks the protocol.
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
            quiet: AtomicU32::new(QUIET_LOOKS),
            pause: AtomicU64::new(FIRST_LOOK_MICROS),
            pool: ThreadPool::default(),
            eviction: Eviction::new(Instant::now()),
        }
    }

    /// Ends the session that has been idle longest, so that `newcomer` has its place. Tells whether one was ended.
    pub(in crate::blocking) fn evict_idle(&self, newcomer: &Peer, whose: Whose) -> bool {
        let sessions = || self.open().iter().map(|served| served.session.clone()).collect();
        self.eviction.evict_one(newcomer, whose, sessions, Instant::now())
    }

    /// Enters a session.
    pub(in crate::blocking) fn enter(&self, session: Arc<Session>) -> Arc<ServedSession> {
        let served = Arc::new(ServedSession {
            session,
            turn: AtomicU32::new(0),
            since: AtomicU64::new(0),
            spread: AtomicBool::new(false),
            quick: AtomicU32::new(0),
            watched: AtomicBool::new(false),
        });
        self.list().push(served.clone());
        served
    }

    /// All sessions that have not ended, or go on with one-way calls, or whose end nobody has seen to. No session is
    /// waited for under the lock of all.
    pub(in crate::blocking) fn open(&self) -> Vec<Arc<ServedSession>> {
        let mut list = self.list();
        list.retain(|served| !served.session.is_over() || served.is_left());
        list.clone()
    }

    /// The sessions that have no thread, and what they wait for. Tells also when to look again at those that are busy.
    pub(in crate::blocking) fn waiting(&self) -> (Vec<(Arc<ServedSession>, PollFlags)>, Option<Instant>) {
        let (mut waiting, mut again) = (Vec::new(), None);
        for served in self.open() {
            let is_watched = served.watched.load(Ordering::Acquire);
            let Some(wants) = served.session.interest() else {
                again = again.or_else(|| Some(Instant::now() + BUSY_LOOK));
                continue;
            };
            // At a socket that was stopped there is nothing to wait for.
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

    /// How long after a look the next one comes.
    pub(in crate::blocking) fn pause(&self) -> Duration {
        Duration::from_micros(self.pause.load(Ordering::Relaxed))
    }

    /// A handler of `served` is slow: from now on each call gets a thread.
    pub(in crate::blocking) fn spread(&self, served: &ServedSession) {
        served.spread.store(true, Ordering::Relaxed);
        served.quick.store(0, Ordering::Relaxed);
        self.pause.store(FIRST_LOOK_MICROS, Ordering::Relaxed);
    }

    /// A time of this server's own clock.
    pub(in crate::blocking) fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Removes a session that has ended. If one-way calls go on, `waker` is woken after the last of them, and the next look at
    /// all sessions removes it.
    pub(in crate::blocking) fn let_go(&self, served: &Arc<ServedSession>, waker: &Waker) {
        // Register before the look, or the last call may end in between unnoticed.
        served.session.set_standby(waker);
        self.list().retain(|other| !Arc::ptr_eq(other, served) || !other.session.is_over());
    }

    /// Lets the threads go that stand ready.
    pub(in crate::blocking) fn close(&self) {
        self.pool.close();
    }
}

/// When to look at it when calls begin to come, in microseconds. Each look doubles the time until the next.
pub(in crate::blocking) const FIRST_LOOK_MICROS: u64 = 2_000;
/// Looks without a call after which the poller stops looking.
pub(in crate::blocking) const QUIET_LOOKS: u32 = 4;
/// How soon the poller looks again at a session that another thread has.
pub(in crate::blocking) const BUSY_LOOK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::blocking::serve_call;

    use crate::blocking::router::Router;
    use crate::client::request::ResultForm;
    use crate::session::state::{End, Reader};
    use crate::session::testing::{Bell, Ends, call};

    #[test]
    fn a_session_that_has_ended_is_let_go_after_its_last_one_way_call() {
        let (sessions, mut ends, (bell, waker)) =
            (SessionTable::new(), Ends::server(Reader::None), Bell::new());
        let served = sessions.enter(ends.session.clone());
        ends.peer.call(call("note", &(), ResultForm::OneWay)).unwrap();
        ends.deliver();
        let begun = ends.session.next_work().unwrap();
        ends.session.close(End::Closed);
        sessions.let_go(&served, &waker);
        assert_eq!((bell.rung(), sessions.open().len()), (0, 1));
        serve_call::answer(&Router::new(), &ends.session, &begun, Instant::now());
        assert!(bell.rung() > 0, "nobody looks at it again");
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
        let (done, hears) = mpsc::channel();
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
        assert!(hears.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for the session");
        open.send(()).unwrap();
        account.join().unwrap();
        looker.join().unwrap();
    }
}

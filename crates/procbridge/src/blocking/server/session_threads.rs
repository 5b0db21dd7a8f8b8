//! The sessions of a server: which thread reads each, and which serves its calls.
//!
//! The thread that reads a session also runs the handlers of the calls it finds, one after the other, and writes their
//! answers with one write: that is the fastest way for handlers that are quick. The poller watches the clock: when a
//! handler holds the thread for longer than a moment, another thread takes the session over, and from then on each call
//! of that session gets a thread, until its handlers are quick again. A session in which nothing happens is watched by
//! the poller and holds no thread.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::blocking::background;
use crate::blocking::server::server::ServerContext;
use crate::blocking::thread_pool::{SPAWN_RETRY, ThreadPool};
use crate::blocking::wait::{self, Parker};
use crate::limits::eviction::{Eviction, Whose};
use crate::peer::Peer;
use crate::session::Session;
use crate::session::incoming_calls::IncomingCall;
use crate::session::leader::{Follower, Step};
use crate::telemetry::log::LogClass;

/// One session of a server.
#[derive(Debug)]
pub(in crate::blocking) struct ServedSession {
    pub(in crate::blocking) session: Arc<Session>,
    /// The turn of the thread that attends to it; whoever had an earlier one is relieved.
    turn: AtomicU32,
    /// When the attending thread began to run a handler, in microseconds of the server's clock; 0 when it does not.
    since: AtomicU64,
    /// Whether each call gets a thread.
    spread: AtomicBool,
    /// Handlers in a row that were quick.
    quick: AtomicU32,
    /// Whether the poller watches it.
    pub(in crate::blocking) watched: AtomicBool,
}

/// All sessions of a server.
#[derive(Debug)]
pub(in crate::blocking) struct SessionThreads {
    list: Mutex<Vec<Arc<ServedSession>>>,
    clock: Instant,
    /// Whether a handler has run since the poller last looked.
    active: AtomicBool,
    /// How often it has looked since then.
    quiet: AtomicU32,
    /// How long after a look the next one comes as long as calls do, in microseconds.
    pause: AtomicU64,
    pool: ThreadPool,
    eviction: Eviction,
}

impl ServedSession {
    /// Whether it has ended while no thread attends to it, and its peer must hear why: a handler that reads for all may find
    /// that the peer breaks the protocol.
    fn is_left(&self) -> bool {
        self.watched.load(Ordering::Acquire) && self.session.must_linger()
    }
}

impl SessionThreads {
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

    /// Does what is due at `now`, and tells when something will be.
    pub(in crate::blocking) fn look(&self, server: &Arc<ServerContext>, now: Instant) -> Option<Instant> {
        let mut next = None;
        let mut is_busy = self.active.swap(false, Ordering::AcqRel);
        let waker = server.poller.waker();
        for served in self.open() {
            is_busy |= self.hand_over_reading(server, &served);
            let is_watched = served.watched.load(Ordering::Acquire);
            let standby = is_watched.then_some(&waker);
            let Some(glance) = served.session.scan(now, standby, &server.control.leaked) else {
                next = wait::soonest(next, Some(now + BUSY_LOOK));
                continue;
            };
            if is_watched && (glance.has_work || served.is_left()) {
                self.dispatch(server, &served);
            }
            for call in glance.expired {
                let method = call.method().unwrap_or_default().to_string();
                server.admission.log.write(LogClass::Timeout, || {
                    format!("method {method:?} is past its time limit and still runs")
                });
            }
            next = wait::soonest(next, glance.next);
        }
        if self.pool.ensure_spare(THREAD) {
            next = wait::soonest(next, Some(now + SPAWN_RETRY));
        }
        let quiet = if is_busy { 0 } else { self.quiet.load(Ordering::Relaxed) + 1 };
        self.quiet.store(quiet.min(QUIET_LOOKS), Ordering::Relaxed);
        if quiet >= QUIET_LOOKS {
            self.pause.store(FIRST_LOOK_MICROS, Ordering::Relaxed);
            return next;
        }
        // Handlers prove quick as long as no look finds one that is not: then looks become rare.
        let pause = self.pause();
        self.pause.store((2 * self.pause.load(Ordering::Relaxed)).min(LAST_LOOK_MICROS), Ordering::Relaxed);
        wait::soonest(next, Some(now + pause))
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

    /// A session that waited is `ready`.
    pub(in crate::blocking) fn wake(
        &self,
        server: &Arc<ServerContext>,
        served: &Arc<ServedSession>,
        ready: PollFlags,
    ) {
        served.session.try_flush();
        if served.watched.load(Ordering::Acquire) && ready != PollFlags::OUT {
            self.dispatch(server, served);
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<ServedSession>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long after a look the next one comes.
    fn pause(&self) -> Duration {
        Duration::from_micros(self.pause.load(Ordering::Relaxed))
    }

    /// A handler of `served` is slow: from now on each call gets a thread.
    fn spread(&self, served: &ServedSession) {
        served.spread.store(true, Ordering::Relaxed);
        served.quick.store(0, Ordering::Relaxed);
        self.pause.store(FIRST_LOOK_MICROS, Ordering::Relaxed);
    }

    /// A time of this server's own clock.
    fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Has another thread attend to `served` if a handler holds the one that does. Tells whether one is at work.
    fn hand_over_reading(&self, server: &Arc<ServerContext>, served: &Arc<ServedSession>) -> bool {
        let since = served.since.load(Ordering::SeqCst);
        if since == 0 {
            return false;
        }
        let lasted = self.micros(Instant::now()).saturating_sub(since);
        let is_slow = Duration::from_micros(lasted) >= SLOW;
        if is_slow && served.since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.spread(served);
            self.dispatch(server, served);
            return false;
        }
        true
    }

    /// Has a thread attend to `served`, instead of the one that may do so now.
    pub(in crate::blocking) fn dispatch(&self, server: &Arc<ServerContext>, served: &Arc<ServedSession>) {
        served.turn.fetch_add(1, Ordering::AcqRel);
        served.watched.store(false, Ordering::Release);
        let (owner, session) = (server.clone(), served.clone());
        let attended = self.pool.run(THREAD, move || owner.sessions.run_session(&owner, &session));
        if let Err(error) = attended {
            served
                .session
                .admission
                .log
                .write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            server.poller.wake_by(Instant::now() + SPAWN_RETRY);
        }
    }

    /// Lets the threads go that stand ready.
    pub(in crate::blocking) fn close(&self) {
        self.pool.close();
    }

    /// Reads a session and serves its calls, until somebody else does, nothing happens, or it ends.
    pub(in crate::blocking) fn run_session(&self, server: &Arc<ServerContext>, served: &Arc<ServedSession>) {
        let mine = served.turn.load(Ordering::Acquire);
        let session = &served.session;
        let mut follower = Follower::new(Instant::now(), wait::own_waker);
        let mut quiet = follower.now + SLOW_SESSION_TIMEOUT;
        loop {
            let turn = session.turn(&mut follower, |state, waker| state.next_call(session, waker));
            let is_quiet = quiet <= follower.now;
            match turn {
                Step::Done(Some(work)) => {
                    let goes_on = self.serve(server, served, work, &mut follower.now);
                    if !goes_on || served.turn.load(Ordering::Acquire) != mine {
                        // What the peer does not take now is left to the poller: no thread waits for that.
                        session.flush();
                        return;
                    }
                    quiet = follower.now + SLOW_SESSION_TIMEOUT;
                }
                Step::Done(None) => return self.end(server, served),
                Step::Stand { .. } if !is_quiet => {
                    session.flush();
                    Parker::this().park(Some(quiet));
                    follower.now = Instant::now();
                }
                turn if !is_quiet => {
                    if wait::progress(session, &mut follower, turn, Some(quiet)) {
                        quiet = follower.now + SLOW_SESSION_TIMEOUT;
                    }
                }
                turn => {
                    // The poller watches it, and writes what the peer has not taken yet.
                    wait::yield_leadership(session, turn, follower.waker());
                    if session.has_ended() {
                        return self.end(server, served);
                    }
                    session.shrink();
                    served.watched.store(true, Ordering::Release);
                    // A handler may read for all, and find calls that nobody attends to.
                    session.set_standby(&server.poller.waker());
                    return server.poller.wake();
                }
            }
        }
    }

    /// Runs the handler of a call, beginning `now`, which is moved on to its end. Tells whether this thread goes on
    /// attending.
    fn serve(
        &self,
        server: &Arc<ServerContext>,
        served: &Arc<ServedSession>,
        work: IncomingCall,
        now: &mut Instant,
    ) -> bool {
        if work.call.unread().is_some_and(|size| size >= LARGE_REQUEST) {
            // Other calls of the session go on meanwhile.
            self.dispatch(server, served);
            work.call.read_ahead(&server.admission);
            if let Some(deadline) = work.call.deadline() {
                server.poller.wake_by(deadline);
            }
            *now = server.run(&served.session, work, *now);
            return false;
        }
        work.call.read_ahead(&server.admission);
        let (began, deadline) = (*now, work.call.deadline());
        if background::is_subscription(&server.router, &served.session, &work) {
            *now = server.run(&served.session, work, began);
            return true;
        }
        // One-way calls of a burst that each got a thread would all be at work before the first of them has ended.
        if served.spread.load(Ordering::Relaxed) && !work.call.is_one_way() {
            if let Some(deadline) = deadline {
                server.poller.wake_by(deadline);
            }
            self.dispatch(server, served);
            *now = server.run(&served.session, work, began);
            if *now - began >= QUICK_HANDLER {
                served.quick.store(0, Ordering::Relaxed);
            } else if served.quick.fetch_add(1, Ordering::Relaxed) >= STEADY_CALLS {
                served.spread.store(false, Ordering::Relaxed);
            }
            return false;
        }
        let start = self.micros(began);
        // In one order with the poller's plan: else each could miss what the other has just stored.
        served.since.store(start, Ordering::SeqCst);
        if !self.active.load(Ordering::Acquire) {
            self.active.store(true, Ordering::Release);
        }
        let look = began + self.pause();
        server.poller.wake_by(deadline.map_or(look, |deadline| deadline.min(look)));
        *now = server.run(&served.session, work, began);
        if *now - began >= SLOW {
            self.spread(served);
        }
        if *now - began >= SLOW_ENOUGH_TO_COUNT {
            // Answers go out together as long as they come quickly; these would wait for the handlers behind them.
            served.session.flush();
        }
        // Not this one any more: it took long, and somebody else attends now, and may be at work like this thread.
        served.since.compare_exchange(start, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Removes a session that has ended. If one-way calls go on, `waker` is woken after the last of them, and the next look at
    /// all sessions removes it.
    fn let_go(&self, served: &Arc<ServedSession>, waker: &Waker) {
        // Register before the look, or the last call may end in between unnoticed.
        served.session.set_standby(waker);
        self.list().retain(|other| !Arc::ptr_eq(other, served) || !other.session.is_over());
    }

    /// A session has ended; what its peer still sends is dropped for a while if it must hear why.
    fn end(&self, server: &Arc<ServerContext>, served: &Arc<ServedSession>) {
        self.let_go(served, &server.poller.waker());
        if served.session.must_linger() {
            server.poller.linger_session(server, served.session.clone());
        }
        server.control.notify();
    }
}

/// The name of the threads that attend to sessions.
const THREAD: &str = "procbridge-session";
/// How long a handler may hold the thread that reads its session.
const SLOW: Duration = Duration::from_micros(1_500);
/// To inflate and check a request of this size holds the thread for longer than another thread takes to begin.
const LARGE_REQUEST: usize = 256 * 1024;
/// How long one may run before what it answers does not wait for the next.
const SLOW_ENOUGH_TO_COUNT: Duration = Duration::from_micros(100);
/// When to look at it when calls begin to come, in microseconds. Each look doubles the time until the next.
const FIRST_LOOK_MICROS: u64 = 2_000;
/// The longest time until the next: how long a slow handler may hold up a session after many quick ones.
const LAST_LOOK_MICROS: u64 = 32_000;
/// Looks without a call after which the poller stops looking.
const QUIET_LOOKS: u32 = 4;
/// Handlers that take less are not worth a thread each.
const QUICK_HANDLER: Duration = Duration::from_micros(100);
/// How many of them in a row show that a session's handlers are quick again.
const STEADY_CALLS: u32 = 64;
/// How soon the poller looks again at a session that another thread has.
const BUSY_LOOK: Duration = Duration::from_millis(2);
/// How long a session may be quiet before the poller watches it.
const SLOW_SESSION_TIMEOUT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::blocking::router::Router;
    use crate::client::request::ResultForm;
    use crate::session::state::{End, Reader};
    use crate::session::testing::{Bell, Ends, call};

    #[test]
    fn a_session_that_has_ended_is_let_go_after_its_last_one_way_call() {
        let (sessions, mut ends, (bell, waker)) =
            (SessionThreads::new(), Ends::server(Reader::None), Bell::new());
        let served = sessions.enter(ends.session.clone());
        ends.peer.call(call("note", &(), ResultForm::OneWay)).unwrap();
        ends.deliver();
        let begun = ends.session.next_work().unwrap();
        ends.session.close(End::Closed);
        sessions.let_go(&served, &waker);
        assert_eq!((bell.rung(), sessions.open().len()), (0, 1));
        background::answer(&Router::new(), &ends.session, &begun, Instant::now());
        assert!(bell.rung() > 0, "nobody looks at it again");
        assert!(sessions.open().is_empty());
    }

    #[test]
    fn no_session_is_waited_for_under_the_lock_of_all() {
        let (sessions, ends, other) =
            (SessionThreads::new(), Ends::server(Reader::None), Ends::server(Reader::None));
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

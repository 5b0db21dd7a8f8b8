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
use crate::blocking::server::server::Shared;
use crate::blocking::thread_pool::{AGAIN, Pool};
use crate::blocking::wait::{self, Sleeper};
use crate::limits::eviction::{MakingRoom, Whose};
use crate::peer::Peer;
use crate::session::Link;
use crate::session::incoming_calls::Work;
use crate::session::leader::{Turn, Visitor};
use crate::telemetry::log::Matter;

/// One session of a server.
#[derive(Debug)]
pub(in crate::blocking) struct Served {
    pub(in crate::blocking) link: Arc<Link>,
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
pub(in crate::blocking) struct Sessions {
    list: Mutex<Vec<Arc<Served>>>,
    clock: Instant,
    /// Whether a handler has run since the poller last looked.
    active: AtomicBool,
    /// How often it has looked since then.
    quiet: AtomicU32,
    /// How long after a look the next one comes as long as calls do, in microseconds.
    pause: AtomicU64,
    pool: Pool,
    making_room: MakingRoom,
}

impl Served {
    /// Whether it has ended while no thread attends to it, and its peer must hear why: a handler that reads for all may find
    /// that the peer breaks the protocol.
    fn is_left(&self) -> bool {
        self.watched.load(Ordering::Acquire) && self.link.must_linger()
    }
}

impl Sessions {
    pub(in crate::blocking) fn new() -> Self {
        Self {
            list: Mutex::default(),
            clock: Instant::now(),
            active: AtomicBool::new(false),
            quiet: AtomicU32::new(QUIET),
            pause: AtomicU64::new(FIRST),
            pool: Pool::default(),
            making_room: MakingRoom::new(Instant::now()),
        }
    }

    /// Ends the session that has been idle longest, so that `newcomer` has its place. Tells whether one was ended.
    pub(in crate::blocking) fn make_room(&self, newcomer: &Peer, whose: Whose) -> bool {
        let links = || self.open().iter().map(|served| served.link.clone()).collect();
        self.making_room.end_one(newcomer, whose, links, Instant::now())
    }

    /// Enters a session.
    pub(in crate::blocking) fn enter(&self, link: Arc<Link>) -> Arc<Served> {
        let served = Arc::new(Served {
            link,
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
    pub(in crate::blocking) fn open(&self) -> Vec<Arc<Served>> {
        let mut list = self.list();
        list.retain(|served| !served.link.is_over() || served.is_left());
        list.clone()
    }

    /// Does what is due at `now`, and tells when something will be.
    pub(in crate::blocking) fn look(&self, shared: &Arc<Shared>, now: Instant) -> Option<Instant> {
        let mut next = None;
        let mut is_busy = self.active.swap(false, Ordering::AcqRel);
        let waker = shared.poller.waker();
        for served in self.open() {
            is_busy |= self.relieve(shared, &served);
            let is_watched = served.watched.load(Ordering::Acquire);
            let attendant = is_watched.then_some(&waker);
            let Some(glance) = served.link.glance(now, attendant, &shared.control.leaked) else {
                next = wait::soonest(next, Some(now + BUSY));
                continue;
            };
            if is_watched && (glance.has_work || served.is_left()) {
                self.dispatch(shared, &served);
            }
            for call in glance.expired {
                let method = call.method().unwrap_or_default().to_string();
                shared.admission.journal.write(Matter::Timeout, || {
                    format!("method {method:?} is past its time limit and still runs")
                });
            }
            next = wait::soonest(next, glance.next);
        }
        if self.pool.make_up(THREAD) {
            next = wait::soonest(next, Some(now + AGAIN));
        }
        let quiet = if is_busy { 0 } else { self.quiet.load(Ordering::Relaxed) + 1 };
        self.quiet.store(quiet.min(QUIET), Ordering::Relaxed);
        if quiet >= QUIET {
            self.pause.store(FIRST, Ordering::Relaxed);
            return next;
        }
        // Handlers prove quick as long as no look finds one that is not: then looks become rare.
        let pause = self.pause();
        self.pause.store((2 * self.pause.load(Ordering::Relaxed)).min(LAST), Ordering::Relaxed);
        wait::soonest(next, Some(now + pause))
    }

    /// The sessions that have no thread, and what they wait for. Tells also when to look again at those that are busy.
    pub(in crate::blocking) fn waiting(&self) -> (Vec<(Arc<Served>, PollFlags)>, Option<Instant>) {
        let (mut waiting, mut again) = (Vec::new(), None);
        for served in self.open() {
            let is_watched = served.watched.load(Ordering::Acquire);
            let Some(wants) = served.link.wants() else {
                again = again.or_else(|| Some(Instant::now() + BUSY));
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
    pub(in crate::blocking) fn wake(&self, shared: &Arc<Shared>, served: &Arc<Served>, ready: PollFlags) {
        served.link.try_flush();
        if served.watched.load(Ordering::Acquire) && ready != PollFlags::OUT {
            self.dispatch(shared, served);
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Served>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long after a look the next one comes.
    fn pause(&self) -> Duration {
        Duration::from_micros(self.pause.load(Ordering::Relaxed))
    }

    /// A handler of `served` is slow: from now on each call gets a thread.
    fn spread(&self, served: &Served) {
        served.spread.store(true, Ordering::Relaxed);
        served.quick.store(0, Ordering::Relaxed);
        self.pause.store(FIRST, Ordering::Relaxed);
    }

    /// A time of this server's own clock.
    fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Has another thread attend to `served` if a handler holds the one that does. Tells whether one is at work.
    fn relieve(&self, shared: &Arc<Shared>, served: &Arc<Served>) -> bool {
        let since = served.since.load(Ordering::SeqCst);
        if since == 0 {
            return false;
        }
        let lasted = self.micros(Instant::now()).saturating_sub(since);
        let is_slow = Duration::from_micros(lasted) >= SLOW;
        if is_slow && served.since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.spread(served);
            self.dispatch(shared, served);
            return false;
        }
        true
    }

    /// Has a thread attend to `served`, instead of the one that may do so now.
    pub(in crate::blocking) fn dispatch(&self, shared: &Arc<Shared>, served: &Arc<Served>) {
        served.turn.fetch_add(1, Ordering::AcqRel);
        served.watched.store(false, Ordering::Release);
        let (server, session) = (shared.clone(), served.clone());
        let attended = self.pool.run(THREAD, move || server.sessions.attend(&server, &session));
        if let Err(error) = attended {
            served.link.admission.journal.write(Matter::Accept, || format!("cannot start a thread: {error}"));
            shared.poller.look_by(Instant::now() + AGAIN);
        }
    }

    /// Lets the threads go that stand ready.
    pub(in crate::blocking) fn close(&self) {
        self.pool.close();
    }

    /// Reads a session and serves its calls, until somebody else does, nothing happens, or it ends.
    pub(in crate::blocking) fn attend(&self, shared: &Arc<Shared>, served: &Arc<Served>) {
        let mine = served.turn.load(Ordering::Acquire);
        let link = &served.link;
        let mut visitor = Visitor::new(Instant::now(), wait::own_waker);
        let mut quiet = visitor.now + PATIENCE;
        loop {
            let turn = link.turn(&mut visitor, |state, waker| state.next_work(link, waker));
            let is_quiet = quiet <= visitor.now;
            match turn {
                Turn::Done(Some(work)) => {
                    let goes_on = self.serve(shared, served, work, &mut visitor.now);
                    if !goes_on || served.turn.load(Ordering::Acquire) != mine {
                        // What the peer does not take now is left to the poller: no thread waits for that.
                        link.flush();
                        return;
                    }
                    quiet = visitor.now + PATIENCE;
                }
                Turn::Done(None) => return self.end(shared, served),
                Turn::Stand { .. } if !is_quiet => {
                    link.flush();
                    Sleeper::this().sleep(Some(quiet));
                    visitor.now = Instant::now();
                }
                turn if !is_quiet => {
                    if wait::progress(link, &mut visitor, turn, Some(quiet)) {
                        quiet = visitor.now + PATIENCE;
                    }
                }
                turn => {
                    // The poller watches it, and writes what the peer has not taken yet.
                    wait::stand_up(link, turn, visitor.waker());
                    if link.has_ended() {
                        return self.end(shared, served);
                    }
                    link.shrink();
                    served.watched.store(true, Ordering::Release);
                    // A handler may read for all, and find calls that nobody attends to.
                    link.attend(&shared.poller.waker());
                    return shared.poller.wake();
                }
            }
        }
    }

    /// Runs the handler of a call, beginning `now`, which is moved on to its end. Tells whether this thread goes on
    /// attending.
    fn serve(&self, shared: &Arc<Shared>, served: &Arc<Served>, work: Work, now: &mut Instant) -> bool {
        if work.call.unread().is_some_and(|size| size >= COSTLY) {
            // Other calls of the session go on meanwhile.
            self.dispatch(shared, served);
            work.call.read_ahead(&shared.admission);
            if let Some(deadline) = work.call.deadline() {
                shared.poller.look_by(deadline);
            }
            *now = shared.run(&served.link, work, *now);
            return false;
        }
        work.call.read_ahead(&shared.admission);
        let (began, deadline) = (*now, work.call.deadline());
        if background::is_subscription(&shared.router, &served.link, &work) {
            *now = shared.run(&served.link, work, began);
            return true;
        }
        // One-way calls of a burst that each got a thread would all be at work before the first of them has ended.
        if served.spread.load(Ordering::Relaxed) && !work.call.is_one_way() {
            if let Some(deadline) = deadline {
                shared.poller.look_by(deadline);
            }
            self.dispatch(shared, served);
            *now = shared.run(&served.link, work, began);
            if *now - began >= QUICK {
                served.quick.store(0, Ordering::Relaxed);
            } else if served.quick.fetch_add(1, Ordering::Relaxed) >= STEADY {
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
        shared.poller.look_by(deadline.map_or(look, |deadline| deadline.min(look)));
        *now = shared.run(&served.link, work, began);
        if *now - began >= SLOW {
            self.spread(served);
        }
        if *now - began >= NOTABLE {
            // Answers go out together as long as they come quickly; these would wait for the handlers behind them.
            served.link.flush();
        }
        // Not this one any more: it took long, and somebody else attends now, and may be at work like this thread.
        served.since.compare_exchange(start, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Removes a session that has ended. If one-way calls go on, `waker` is woken after the last of them, and the next look at
    /// all sessions removes it.
    fn let_go(&self, served: &Arc<Served>, waker: &Waker) {
        // Register before the look, or the last call may end in between unnoticed.
        served.link.attend(waker);
        self.list().retain(|other| !Arc::ptr_eq(other, served) || !other.link.is_over());
    }

    /// A session has ended; what its peer still sends is dropped for a while if it must hear why.
    fn end(&self, shared: &Arc<Shared>, served: &Arc<Served>) {
        self.let_go(served, &shared.poller.waker());
        if served.link.must_linger() {
            shared.poller.linger_session(shared, served.link.clone());
        }
        shared.control.notify();
    }
}

/// The name of the threads that attend to sessions.
const THREAD: &str = "procbridge-session";
/// How long a handler may hold the thread that reads its session.
const SLOW: Duration = Duration::from_micros(1_500);
/// To inflate and check a request of this size holds the thread for longer than another thread takes to begin.
const COSTLY: usize = 256 * 1024;
/// How long one may run before what it answers does not wait for the next.
const NOTABLE: Duration = Duration::from_micros(100);
/// When to look at it when calls begin to come, in microseconds. Each look doubles the time until the next.
const FIRST: u64 = 2_000;
/// The longest time until the next: how long a slow handler may hold up a session after many quick ones.
const LAST: u64 = 32_000;
/// Looks without a call after which the poller stops looking.
const QUIET: u32 = 4;
/// Handlers that take less are not worth a thread each.
const QUICK: Duration = Duration::from_micros(100);
/// How many of them in a row show that a session's handlers are quick again.
const STEADY: u32 = 64;
/// How soon the poller looks again at a session that another thread has.
const BUSY: Duration = Duration::from_millis(2);
/// How long a session may be quiet before the poller watches it.
const PATIENCE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::blocking::router::Router;
    use crate::client::request::Form;
    use crate::session::state::{End, Seat};
    use crate::session::testing::{Bell, Ends, call};

    #[test]
    fn a_session_that_has_ended_is_let_go_after_its_last_one_way_call() {
        let (sessions, mut ends, (bell, waker)) = (Sessions::new(), Ends::server(Seat::Free), Bell::new());
        let served = sessions.enter(ends.link.clone());
        ends.peer.call(call("note", &(), Form::OneWay)).unwrap();
        ends.deliver();
        let begun = ends.link.next_work().unwrap();
        ends.link.close(End::Closed);
        sessions.let_go(&served, &waker);
        assert_eq!((bell.rung(), sessions.open().len()), (0, 1));
        background::answer(&Router::new(), &ends.link, &begun, Instant::now());
        assert!(bell.rung() > 0, "nobody looks at it again");
        assert!(sessions.open().is_empty());
    }

    #[test]
    fn no_session_is_waited_for_under_the_lock_of_all() {
        let (sessions, ends, other) = (Sessions::new(), Ends::server(Seat::Free), Ends::server(Seat::Free));
        let served = sessions.enter(ends.link.clone());
        served.watched.store(true, Ordering::Release);
        let (holds, held) = mpsc::channel();
        let (open, door) = mpsc::channel::<()>();
        let link = ends.link.clone();
        let holder = thread::spawn(move || {
            link.with(|_| {
                holds.send(()).unwrap();
                let _ = door.recv();
            });
        });
        held.recv().unwrap();
        let (done, hears) = mpsc::channel();
        let looker = thread::spawn(move || {
            let Ends { link, socket: _socket, .. } = other;
            assert_eq!(sessions.open().len(), 1);
            sessions.enter(link);
            let (waiting, again) = sessions.waiting();
            assert!(waiting.is_empty() && again.is_some());
            assert!(!sessions.make_room(&ends.link.peer, Whose::All));
            assert!(ends.link.glance(Instant::now(), None, &Default::default()).is_none());
            ends.link.try_flush();
            done.send(()).unwrap();
        });
        assert!(hears.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for the session");
        open.send(()).unwrap();
        holder.join().unwrap();
        looker.join().unwrap();
    }
}

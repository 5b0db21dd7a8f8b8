//! The sessions of a server: which thread reads each, and which serves its calls.
//!
//! The thread that reads a session also runs the handlers of the calls it finds, one after the other, and writes their
//! answers with one write: that is the fastest way for handlers that are quick. The poller watches the clock: when a
//! handler holds the thread for longer than a moment, another thread takes the session over, and from then on each call
//! of that session gets a thread, until its handlers are quick again. A session in which nothing happens is watched by
//! the poller and holds no thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::blocking::serve_call;
use crate::blocking::server::context::ServerContext;
use crate::blocking::server::session_table::{BUSY_LOOK, FIRST_LOOK_MICROS, QUIET_LOOKS, ServedSession};
use crate::blocking::thread_pool::SPAWN_RETRY;
use crate::blocking::wait::{self, Parker};
use crate::session::leader::{Follower, Step};
use crate::session::served_call::IncomingCall;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Does what is due at `now`, and tells when something will be.
    pub(in crate::blocking) fn look_at_sessions(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let mut next = None;
        let mut is_busy = self.sessions.active.swap(false, Ordering::AcqRel);
        let waker = self.poller.waker();
        for served in self.sessions.open() {
            is_busy |= self.hand_over_reading(&served);
            let is_watched = served.watched.load(Ordering::Acquire);
            let standby = is_watched.then_some(&waker);
            let Some(glance) = served.session.scan(now, standby, &self.control.leaked) else {
                next = wait::soonest(next, Some(now + BUSY_LOOK));
                continue;
            };
            if is_watched && (glance.has_work || served.is_left()) {
                self.dispatch(&served);
            }
            for call in glance.expired {
                let method = call.method().unwrap_or_default().to_string();
                self.admission.log.write(LogClass::Timeout, || {
                    format!("method {method:?} is past its time limit and still runs")
                });
            }
            next = wait::soonest(next, glance.next);
        }
        if self.sessions.pool.ensure_spare(THREAD) {
            next = wait::soonest(next, Some(now + SPAWN_RETRY));
        }
        let quiet = if is_busy { 0 } else { self.sessions.quiet.load(Ordering::Relaxed) + 1 };
        self.sessions.quiet.store(quiet.min(QUIET_LOOKS), Ordering::Relaxed);
        if quiet >= QUIET_LOOKS {
            self.sessions.pause.store(FIRST_LOOK_MICROS, Ordering::Relaxed);
            return next;
        }
        // Handlers prove quick as long as no look finds one that is not: then looks become rare.
        let pause = self.sessions.pause();
        self.sessions.pause.store(
            (2 * self.sessions.pause.load(Ordering::Relaxed)).min(LAST_LOOK_MICROS),
            Ordering::Relaxed,
        );
        wait::soonest(next, Some(now + pause))
    }

    /// A session that waited is `ready`.
    pub(in crate::blocking) fn wake_session(self: &Arc<Self>, served: &Arc<ServedSession>, ready: PollFlags) {
        served.session.try_flush();
        if served.watched.load(Ordering::Acquire) && ready != PollFlags::OUT {
            self.dispatch(served);
        }
    }

    /// Has another thread attend to `served` if a handler holds the one that does. Tells whether one is at work.
    fn hand_over_reading(self: &Arc<Self>, served: &Arc<ServedSession>) -> bool {
        let since = served.since.load(Ordering::SeqCst);
        if since == 0 {
            return false;
        }
        let lasted = self.sessions.micros(Instant::now()).saturating_sub(since);
        let is_slow = Duration::from_micros(lasted) >= SLOW;
        if is_slow && served.since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.sessions.spread(served);
            self.dispatch(served);
            return false;
        }
        true
    }

    /// Has a thread attend to `served`, instead of the one that may do so now.
    pub(in crate::blocking) fn dispatch(self: &Arc<Self>, served: &Arc<ServedSession>) {
        served.turn.fetch_add(1, Ordering::AcqRel);
        served.watched.store(false, Ordering::Release);
        let (owner, session) = (self.clone(), served.clone());
        let attended = self.sessions.pool.run(THREAD, move || owner.run_session(&session));
        if let Err(error) = attended {
            served
                .session
                .admission
                .log
                .write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            self.poller.wake_by(Instant::now() + SPAWN_RETRY);
        }
    }

    /// Reads a session and serves its calls, until somebody else does, nothing happens, or it ends.
    pub(in crate::blocking) fn run_session(self: &Arc<Self>, served: &Arc<ServedSession>) {
        let mine = served.turn.load(Ordering::Acquire);
        let session = &served.session;
        let mut follower = Follower::new(Instant::now(), wait::own_waker);
        let mut quiet = follower.now + SLOW_SESSION_TIMEOUT;
        loop {
            let turn = session.step(&mut follower, |state, waker| state.next_call(session, waker));
            let is_quiet = quiet <= follower.now;
            match turn {
                Step::Done(Some(work)) => {
                    let goes_on = self.serve_call(served, work, &mut follower.now);
                    if !goes_on || served.turn.load(Ordering::Acquire) != mine {
                        // What the peer does not take now is left to the poller: no thread waits for that.
                        session.flush();
                        return;
                    }
                    quiet = follower.now + SLOW_SESSION_TIMEOUT;
                }
                Step::Done(None) => return self.end_session(served),
                Step::Follow { .. } if !is_quiet => {
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
                        return self.end_session(served);
                    }
                    session.shrink();
                    served.watched.store(true, Ordering::Release);
                    // A handler may read for all, and find calls that nobody attends to.
                    session.set_standby(&self.poller.waker());
                    return self.poller.wake();
                }
            }
        }
    }

    /// Runs the handler of a call, beginning `now`, which is moved on to its end. Tells whether this thread goes on
    /// attending.
    fn serve_call(
        self: &Arc<Self>,
        served: &Arc<ServedSession>,
        work: IncomingCall,
        now: &mut Instant,
    ) -> bool {
        if work.call.unread().is_some_and(|size| size >= LARGE_REQUEST) {
            // Other calls of the session go on meanwhile.
            self.dispatch(served);
            work.call.read_ahead(&self.admission);
            if let Some(deadline) = work.call.deadline() {
                self.poller.wake_by(deadline);
            }
            *now = self.run(&served.session, work, *now);
            return false;
        }
        work.call.read_ahead(&self.admission);
        let (began, deadline) = (*now, work.call.deadline());
        if serve_call::is_subscription(&self.router, &served.session, &work) {
            *now = self.run(&served.session, work, began);
            return true;
        }
        // One-way calls of a burst that each got a thread would all be at work before the first of them has ended.
        if served.spread.load(Ordering::Relaxed) && !work.call.is_one_way {
            if let Some(deadline) = deadline {
                self.poller.wake_by(deadline);
            }
            self.dispatch(served);
            *now = self.run(&served.session, work, began);
            if *now - began >= QUICK_HANDLER {
                served.quick.store(0, Ordering::Relaxed);
            } else if served.quick.fetch_add(1, Ordering::Relaxed) >= STEADY_CALLS {
                served.spread.store(false, Ordering::Relaxed);
            }
            return false;
        }
        let start = self.sessions.micros(began);
        // In one order with the poller's plan: else each could miss what the other has just stored.
        served.since.store(start, Ordering::SeqCst);
        if !self.sessions.active.load(Ordering::Acquire) {
            self.sessions.active.store(true, Ordering::Release);
        }
        let look = began + self.sessions.pause();
        self.poller.wake_by(deadline.map_or(look, |deadline| deadline.min(look)));
        *now = self.run(&served.session, work, began);
        let lasted = *now - began;
        if lasted >= SLOW {
            self.sessions.spread(served);
        }
        if lasted >= SLOW_ENOUGH_TO_COUNT {
            // Answers go out together as long as they come quickly; these would wait for the handlers behind them.
            served.session.flush();
        }
        // Not this one any more: it took long, and somebody else attends now, and may be at work like this thread.
        served.since.compare_exchange(start, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A session has ended; what its peer still sends is dropped for a while if it must hear why.
    fn end_session(self: &Arc<Self>, served: &Arc<ServedSession>) {
        self.sessions.let_go(served, &self.poller.waker());
        if served.session.must_linger() {
            self.poller.linger_session(&self.admission, served.session.clone());
        }
        self.control.notify();
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
/// The longest time until the next: how long a slow handler may hold up a session after many quick ones.
const LAST_LOOK_MICROS: u64 = 32_000;
/// Handlers that take less are not worth a thread each.
const QUICK_HANDLER: Duration = Duration::from_micros(100);
/// How many of them in a row show that a session's handlers are quick again.
const STEADY_CALLS: u32 = 64;
/// How long a session may be quiet before the poller watches it.
const SLOW_SESSION_TIMEOUT: Duration = Duration::from_millis(200);

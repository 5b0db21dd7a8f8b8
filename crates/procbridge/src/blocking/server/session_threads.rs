//! The threads of a server's sessions: which one reads each session, and which ones serve its calls.
//!
//! The thread that reads a session also runs the handlers of the calls it finds, one after the other. It writes their
//! answers with one write. That is fastest for quick handlers. The event loop watches the clock: if a handler occupies
//! the thread for more than 1.5 ms, another thread takes over the session. For a second, each call of that session gets
//! a thread. The event loop watches an idle session, which needs no thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::blocking::serve_call;
use crate::blocking::server::context::ServerContext;
use crate::blocking::server::session_table::{BUSY_CHECK, FIRST_CHECK_MICROS, QUIET_CHECKS, ServedSession};
use crate::blocking::thread_pool::SPAWN_RETRY;
use crate::blocking::wait::{self, Parker};
use crate::session::leader::{Follower, Step};
use crate::session::served_call::IncomingCall;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Does what is due at `now`, and returns the next due time.
    pub(in crate::blocking) fn check_sessions(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let mut next = None;
        let mut is_busy = self.sessions.active.swap(false, Ordering::AcqRel);
        let waker = self.event_loop.waker();
        for served in self.sessions.open() {
            is_busy |= self.hand_over_reading(&served);
            let is_watched = served.watched.load(Ordering::Acquire);
            let standby = is_watched.then_some(&waker);
            let Some(scan) = served.session.scan(now, standby, &self.shutdown.leaked) else {
                next = wait::soonest(next, Some(now + BUSY_CHECK));
                continue;
            };
            if is_watched && (scan.has_incoming || served.is_left()) {
                self.dispatch(&served);
            }
            for call in scan.expired {
                let method = call.method().unwrap_or_default().to_string();
                self.admission.log.write(LogClass::Timeout, || {
                    format!("method {method:?} is past its deadline and still runs")
                });
            }
            next = wait::soonest(next, scan.next);
        }
        if self.sessions.pool.ensure_spare(THREAD) {
            next = wait::soonest(next, Some(now + SPAWN_RETRY));
        }
        let quiet = if is_busy { 0 } else { self.sessions.quiet.load(Ordering::Relaxed) + 1 };
        self.sessions.quiet.store(quiet.min(QUIET_CHECKS), Ordering::Relaxed);
        if quiet >= QUIET_CHECKS {
            self.sessions.pause.store(FIRST_CHECK_MICROS, Ordering::Relaxed);
            return next;
        }
        // As long as no check finds a slow handler, the checks become rarer.
        let pause = self.sessions.pause();
        self.sessions.pause.store(
            (2 * self.sessions.pause.load(Ordering::Relaxed)).min(LAST_CHECK_MICROS),
            Ordering::Relaxed,
        );
        wait::soonest(next, Some(now + pause))
    }

    /// Handles the readiness of a session that no thread reads, or that has bytes to write.
    pub(in crate::blocking) fn wake_session(self: &Arc<Self>, served: &Arc<ServedSession>, ready: PollFlags) {
        served.session.try_flush();
        if served.watched.load(Ordering::Acquire) && ready != PollFlags::OUT {
            self.dispatch(served);
        }
    }

    /// Lets another thread take over `served` if a handler has occupied its thread for too long. Returns whether a
    /// handler runs that has not been slow so far.
    fn hand_over_reading(self: &Arc<Self>, served: &Arc<ServedSession>) -> bool {
        let since = served.since.load(Ordering::SeqCst);
        if since == 0 {
            return false;
        }
        let now = Instant::now();
        let lasted = self.sessions.micros(now).saturating_sub(since);
        let is_slow = Duration::from_micros(lasted) >= SLOW;
        if is_slow && served.since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.sessions.spread(served, now);
            self.dispatch(served);
            return false;
        }
        true
    }

    /// Starts a thread that serves `served`, in place of the current one, if any.
    pub(in crate::blocking) fn dispatch(self: &Arc<Self>, served: &Arc<ServedSession>) {
        served.thread_number.fetch_add(1, Ordering::AcqRel);
        served.watched.store(false, Ordering::Release);
        let (owner, session) = (self.clone(), served.clone());
        let started = self.sessions.pool.run(THREAD, move || owner.run_session(&session));
        if let Err(error) = started {
            served
                .session
                .admission
                .log
                .write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            self.event_loop.wake_by(Instant::now() + SPAWN_RETRY);
        }
    }

    /// Reads a session and serves its calls, until another thread takes over, it is idle, or it ends.
    pub(in crate::blocking) fn run_session(self: &Arc<Self>, served: &Arc<ServedSession>) {
        let own_number = served.thread_number.load(Ordering::Acquire);
        let session = &served.session;
        let mut follower = Follower::new(Instant::now(), wait::own_waker);
        let mut quiet = follower.now + SLOW_SESSION_TIMEOUT;
        loop {
            let step = session.step(&mut follower, |state, waker| state.next_call(session, waker));
            let is_quiet = quiet <= follower.now;
            match step {
                Step::Done(Some(work)) => {
                    let goes_on = self.serve_call(served, work, &mut follower.now);
                    if !goes_on || served.thread_number.load(Ordering::Acquire) != own_number {
                        // The event loop writes what the peer does not take now: no thread waits for that.
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
                step if !is_quiet => {
                    if wait::progress(session, &mut follower, step, Some(quiet)) {
                        quiet = follower.now + SLOW_SESSION_TIMEOUT;
                    }
                }
                step => {
                    // The event loop watches it, and writes what the peer has not taken yet.
                    wait::yield_leadership(session, step, follower.waker());
                    if session.has_ended() {
                        return self.end_session(served);
                    }
                    session.shrink();
                    served.watched.store(true, Ordering::Release);
                    // A handler may be the leader, and find calls that no thread serves.
                    session.set_standby(&self.event_loop.waker());
                    return self.event_loop.wake();
                }
            }
        }
    }

    /// Runs the handler of a call, which begins at `now`; sets `now` to its end. Returns whether this thread goes on
    /// serving the session.
    fn serve_call(
        self: &Arc<Self>,
        served: &Arc<ServedSession>,
        work: IncomingCall,
        now: &mut Instant,
    ) -> bool {
        if work.call.unread().is_some_and(|size| size >= LARGE_REQUEST) {
            // Other calls of the session are served meanwhile.
            self.dispatch(served);
            work.call.read_ahead(&self.admission);
            if let Some(deadline) = work.call.deadline() {
                self.event_loop.wake_by(deadline);
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
        let start = self.sessions.micros(began);
        // If each one-way call of a burst got a thread, all would run before the first has ended.
        if served.threads_until.load(Ordering::Relaxed) > start && !work.call.is_one_way {
            if let Some(deadline) = deadline {
                self.event_loop.wake_by(deadline);
            }
            self.dispatch(served);
            *now = self.run(&served.session, work, began);
            if *now - began >= SLOW {
                self.sessions.spread(served, *now);
            }
            return false;
        }
        // `SeqCst`, in one order with the event loop's plan: otherwise each could miss what the other has just stored.
        served.since.store(start, Ordering::SeqCst);
        if !self.sessions.active.load(Ordering::Acquire) {
            self.sessions.active.store(true, Ordering::Release);
        }
        let check = began + self.sessions.pause();
        self.event_loop.wake_by(deadline.map_or(check, |deadline| deadline.min(check)));
        *now = self.run(&served.session, work, began);
        let lasted = *now - began;
        if lasted >= SLOW {
            self.sessions.spread(served, *now);
        }
        if lasted >= SLOW_ENOUGH_TO_COUNT {
            // Quick answers are written together; this one would wait for the handlers behind it.
            served.session.flush();
        }
        // False if the handler was slow: another thread serves the session now, and may run a handler too.
        served.since.compare_exchange(start, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Handles the end of a session. If the peer must learn why, what it still sends is dropped for a while.
    fn end_session(self: &Arc<Self>, served: &Arc<ServedSession>) {
        self.sessions.let_go(served, &self.event_loop.waker());
        if served.session.must_linger() {
            self.event_loop.linger_session(&self.admission, served.session.clone());
        }
        self.shutdown.notify();
    }
}

/// The name of the threads that serve sessions.
const THREAD: &str = "procbridge-session";
/// How long a handler may occupy the thread that reads its session.
const SLOW: Duration = Duration::from_micros(1_500);
/// Inflating and checking a request of this size takes longer than starting another thread.
const LARGE_REQUEST: usize = 256 * 1024;
/// The running time from which a handler's answer does not wait for the next one.
const SLOW_ENOUGH_TO_COUNT: Duration = Duration::from_micros(100);
/// The longest interval between checks: how long a slow handler may delay a session after many quick ones.
const LAST_CHECK_MICROS: u64 = 32_000;
/// How long a session may be idle before the event loop watches it.
const SLOW_SESSION_TIMEOUT: Duration = Duration::from_millis(200);

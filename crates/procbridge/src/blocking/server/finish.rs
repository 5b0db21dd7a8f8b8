//! The graceful shutdown of a server: calls in flight finish within the drain timeout, the rest is answered without its
//! handler.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking::server::context::ServerContext;
use crate::blocking::server::shutdown::Phase;
use crate::blocking::thread_pool::spawn;
use crate::config::tuning::{FLUSH_GRACE, STOPPING};
use crate::reply_error::{self};
use crate::session::Session;
use crate::session::end::End;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Waits for the stop, then for the calls in flight within the drain timeout, and answers the rest. `listening` are
    /// the sockets at which threads accept.
    pub(in crate::blocking) fn finish(self: &Arc<Self>, listening: &[Weak<OwnedFd>]) {
        self.shutdown.wait_past(Phase::Serving, None);
        self.event_loop.wake();
        self.shutdown.close_listeners();
        // The threads blocked in accept return now. Once the last has, the endpoint is free, and what they accepted is
        // counted as arriving.
        let late = Instant::now() + FLUSH_GRACE;
        while listening.iter().any(|socket| socket.strong_count() > 0) && Instant::now() < late {
            thread::sleep(Duration::from_micros(100));
        }
        for served in self.sessions.open() {
            end_in_order(&served.session);
        }
        for (accepted, peers) in self.shutdown.drain_backlog() {
            let (server, arriving) = (self.clone(), self.arriving.try_acquire(1));
            let serve = move || server.serve(accepted, peers, arriving);
            // Without a thread the connection is closed, and its client sees that.
            if let Err(error) = spawn("procbridge-server", serve) {
                self.admission.log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            }
        }
        let deadline = Instant::now().checked_add(self.admission.config.drain_timeout);
        while self.shutdown.phase() == Phase::Draining && (self.is_at_work() || self.has_sessions()) {
            let soon = Instant::now() + DRAIN_POLL;
            self.shutdown.wait_change(deadline.map_or(soon, |deadline| soon.min(deadline)));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
        }
        for entry in self.in_flight.close(&self.shutdown.leaked) {
            self.answer_without_handler(entry, &reply_error::cancelled());
        }
        self.close_sessions();
        self.sessions.close();
        self.shutdown.advance(Phase::Ended);
        // Sessions that were entered meanwhile.
        self.close_sessions();
        self.event_loop.wake();
    }

    fn close_sessions(&self) {
        for served in self.sessions.open() {
            self.close_session(&served.session);
        }
    }

    /// Ends a session, and answers its calls.
    pub(in crate::blocking) fn close_session(&self, session: &Session) {
        session.refuse_all(&reply_error::cancelled(), &self.shutdown.leaked);
        session.close(End::Closed);
    }

    /// Whether sessions have something to finish.
    fn has_sessions(&self) -> bool {
        !self.sessions.open().is_empty()
    }

    /// Whether a caller waits for a handler that runs, or may begin at any moment.
    fn is_at_work(&self) -> bool {
        self.arriving.used() + self.admission.calls() > self.shutdown.leaked.load(Ordering::Relaxed)
    }
}

/// Lets a session finish the calls in flight, and then end.
pub(in crate::blocking) fn end_in_order(session: &Session) {
    session.end_subscriptions(&reply_error::stopping());
    session.goodbye(STOPPING);
}

/// The interval between checks: a call can end between a check and the wait for a change.
const DRAIN_POLL: Duration = Duration::from_millis(20);

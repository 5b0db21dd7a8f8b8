//! The end of a server: what is in flight finishes within its time, the rest is answered without its handler.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::blocking::server::context::ServerContext;
use crate::blocking::server::shutdown::Phase;
use crate::blocking::thread_pool::spawn;
use crate::reply_error::{self};
use crate::session::Session;
use crate::session::state::End;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Waits for the stop, then for the calls in flight within their time, and answers the rest. `listening` are the
    /// sockets at which threads accept.
    pub(in crate::blocking) fn finish(self: &Arc<Self>, listening: &[Weak<OwnedFd>]) {
        self.control.wait_past(Phase::Serving, None);
        self.poller.wake();
        self.control.close_listeners();
        // The threads that waited in accept leave it now. When the last of them has, the endpoint is free, and what they
        // have accepted is known to be arriving.
        let late = Instant::now() + FLUSH_GRACE;
        while listening.iter().any(|socket| socket.strong_count() > 0) && Instant::now() < late {
            thread::sleep(Duration::from_micros(100));
        }
        for served in self.sessions.open() {
            end_in_order(&served.session);
        }
        for (accepted, peers) in self.control.drain_backlog() {
            let (server, arriving) = (self.clone(), self.arriving.try_acquire(1));
            let serve = move || server.serve(accepted, peers, arriving);
            // If there is no thread the connection is closed, and its client told that it was.
            if let Err(error) = spawn("procbridge-server", serve) {
                self.admission.log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            }
        }
        let deadline = Instant::now().checked_add(self.admission.config.drain_timeout);
        while self.control.phase() == Phase::Draining && (self.is_at_work() || self.has_sessions()) {
            let soon = Instant::now() + DRAIN_POLL;
            self.control.wait_change(deadline.map_or(soon, |deadline| soon.min(deadline)));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
        }
        for running in self.running.close(&self.control.leaked) {
            self.answer_without_handler(running, &reply_error::cancelled());
        }
        self.close_sessions();
        self.sessions.close();
        self.control.advance(Phase::Ended);
        // Those that have entered meanwhile.
        self.close_sessions();
        self.poller.wake();
    }

    fn close_sessions(&self) {
        for served in self.sessions.open() {
            self.close_session(&served.session);
        }
    }

    /// Ends a session, and answers its calls.
    pub(in crate::blocking) fn close_session(&self, session: &Session) {
        session.refuse_all(&reply_error::cancelled(), &self.control.leaked);
        session.close(End::Closed);
    }

    /// Whether sessions have something to finish.
    fn has_sessions(&self) -> bool {
        !self.sessions.open().is_empty()
    }

    /// Whether a call is, or may be about to be, with a handler that somebody waits for.
    fn is_at_work(&self) -> bool {
        self.arriving.used() + self.admission.calls() > self.control.leaked.load(Ordering::Relaxed)
    }
}

/// Has a session end with the calls that are in flight.
pub(in crate::blocking) fn end_in_order(session: &Session) {
    session.end_subscriptions(&reply_error::stopping());
    session.goodbye(STOPPING);
}

/// What sessions are told when the server stops.
const STOPPING: &str = "the server is stopping";
/// How long a server that has ended waits for its threads to let go of the sockets.
const FLUSH_GRACE: Duration = Duration::from_secs(1);
/// A call can end between a look at the calls and the wait for a change.
const DRAIN_POLL: Duration = Duration::from_millis(20);

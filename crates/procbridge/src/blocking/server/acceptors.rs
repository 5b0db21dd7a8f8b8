//! The threads that accept at one endpoint and serve what they accept.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::blocking::server::context::ServerContext;
use crate::blocking::server::listening::Listening;
use crate::blocking::server::shutdown::Phase;
use crate::blocking::thread_pool::{SPAWN_RETRY, spawn};
use crate::config::cores::cores;
use crate::net::accept_backoff::AcceptBackoff;
use crate::net::listener::AllowedPeers;
use crate::net::socket;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Starts the threads that accept at `socket`.
    pub(in crate::blocking) fn begin_accepting(
        self: &Arc<Self>,
        socket: Weak<OwnedFd>,
        peers: AllowedPeers,
    ) -> io::Result<()> {
        let kept = self.admission.config.acceptors.unwrap_or_else(default_acceptors);
        let listening = Arc::new(Listening { socket, peers, kept, idle: AtomicUsize::new(0) });
        (0..kept).try_for_each(|_| self.start_acceptor(&listening))
    }

    /// Starts one more thread that accepts.
    fn start_acceptor(self: &Arc<Self>, listening: &Arc<Listening>) -> io::Result<()> {
        listening.idle.fetch_add(1, Ordering::AcqRel);
        let (server, accepts_at) = (self.clone(), listening.clone());
        let thread = spawn("procbridge-server", move || server.accept(&accepts_at));
        if thread.is_err() {
            listening.idle.fetch_sub(1, Ordering::AcqRel);
        }
        thread.map(drop)
    }

    /// Accepts and serves. Some thread always accepts: the last idle one to get a connection starts another before it
    /// serves. A thread that returns ends if more than enough are idle.
    fn accept(self: &Arc<Self>, listening: &Arc<Listening>) {
        let mut backoff = AcceptBackoff::new();
        let log = &self.admission.log;
        loop {
            let Some(socket) = listening.socket.upgrade() else { return };
            let accepted = socket::accept(&socket);
            // Acquire before dropping the socket: a stopping server waits for the sockets first, and then for the
            // arriving connections.
            let arriving = if accepted.is_ok() { self.arriving.try_acquire(1) } else { None };
            drop(socket);
            match accepted {
                Ok(accepted) => {
                    backoff.reset();
                    if listening.idle.fetch_sub(1, Ordering::AcqRel) == 1
                        && let Err(error) = self.start_acceptor(listening)
                    {
                        log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
                        self.short_of_threads().push(listening.clone());
                        self.event_loop.wake_by(Instant::now() + SPAWN_RETRY);
                    }
                    self.serve(accepted, listening.peers, arriving);
                    // A few idle threads cost less than starting threads that end at once.
                    if listening.idle.fetch_add(1, Ordering::AcqRel) >= 2 * listening.kept {
                        listening.idle.fetch_sub(1, Ordering::AcqRel);
                        return;
                    }
                }
                Err(_) if self.shutdown.is_stopping() => return,
                Err(error) => {
                    log.write(LogClass::Accept, || format!("cannot accept: {}", io::Error::from(error)));
                    if AcceptBackoff::is_needed(error) {
                        let until = Instant::now() + backoff.pause();
                        self.shutdown.wait_past(Phase::Serving, Some(until));
                    }
                }
            }
        }
    }

    /// Starts a thread at each endpoint where none accepts because the system gave none. Returns when to retry.
    pub(in crate::blocking) fn start_acceptors(self: &Arc<Self>) -> Option<Instant> {
        let mut unstarted = self.short_of_threads();
        unstarted.retain(|listening| {
            listening.lacks_thread()
                && !self.shutdown.is_stopping()
                && self.start_acceptor(listening).is_err()
        });
        (!unstarted.is_empty()).then(|| Instant::now() + SPAWN_RETRY)
    }

    fn short_of_threads(&self) -> MutexGuard<'_, Vec<Arc<Listening>>> {
        self.unstarted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_acceptors() -> usize {
    cores().map_or(4, |cores| (cores * 2).clamp(4, 8))
}

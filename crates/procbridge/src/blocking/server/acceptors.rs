//! The threads that accept at one endpoint, each of which serves what it accepts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::blocking::server::server::ServerContext;
use crate::blocking::server::shutdown::Phase;
use crate::blocking::thread_pool::{SPAWN_RETRY, spawn};
use crate::config::cores::cores;
use crate::net::accept_backoff::AcceptBackoff;
use crate::net::listener::AllowedPeers;
use crate::net::socket;
use crate::telemetry::log::LogClass;

/// The acceptors of one listener.
pub(in crate::blocking) struct Acceptors {
    server: Arc<ServerContext>,
    /// Not held while a connection is served: a handler must not keep the endpoint from the next server.
    socket: Weak<OwnedFd>,
    peers: AllowedPeers,
    kept: usize,
    idle: AtomicUsize,
}

impl Acceptors {
    /// Starts the threads that accept at `socket`.
    pub(in crate::blocking) fn begin(
        server: &Arc<ServerContext>,
        socket: Weak<OwnedFd>,
        peers: AllowedPeers,
    ) -> io::Result<()> {
        let kept = server.admission.config.acceptors.unwrap_or_else(default_acceptors);
        let acceptors =
            Arc::new(Self { server: server.clone(), socket, peers, kept, idle: AtomicUsize::new(0) });
        (0..kept).try_for_each(|_| Self::start(&acceptors))
    }

    /// Starts one more thread that accepts.
    fn start(this: &Arc<Self>) -> io::Result<()> {
        this.idle.fetch_add(1, Ordering::AcqRel);
        let acceptors = this.clone();
        let thread = spawn("procbridge-server", move || Self::run(&acceptors));
        if thread.is_err() {
            this.idle.fetch_sub(1, Ordering::AcqRel);
        }
        thread.map(drop)
    }

    /// Whether nobody accepts, and somebody should.
    fn lacks_thread(&self) -> bool {
        self.idle.load(Ordering::Acquire) == 0
            && self.socket.strong_count() > 0
            && !self.server.control.is_stopping()
    }

    /// Accepts and serves. There is always a thread that accepts: the last one to find a connection starts another
    /// before it serves; one that comes back and finds more than enough of them ends.
    fn run(this: &Arc<Self>) {
        let mut backoff = AcceptBackoff::new();
        let log = &this.server.admission.log;
        loop {
            let Some(socket) = this.socket.upgrade() else { return };
            let accepted = socket::accept(&socket);
            // Before the socket is let go: a server that stops waits for that first, and then for what is arriving.
            let arriving = if accepted.is_ok() { this.server.arriving.try_acquire(1) } else { None };
            drop(socket);
            match accepted {
                Ok(accepted) => {
                    backoff.reset();
                    if this.idle.fetch_sub(1, Ordering::AcqRel) == 1
                        && let Err(error) = Self::start(this)
                    {
                        log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
                        this.server.short_of_threads().push(this.clone());
                        this.server.poller.wake_by(Instant::now() + SPAWN_RETRY);
                    }
                    this.server.serve(accepted, this.peers, arriving);
                    // Starting threads that end at once would cost more than a few that stand ready.
                    if this.idle.fetch_add(1, Ordering::AcqRel) >= 2 * this.kept {
                        this.idle.fetch_sub(1, Ordering::AcqRel);
                        return;
                    }
                }
                Err(_) if this.server.control.is_stopping() => return,
                Err(error) => {
                    log.write(LogClass::Accept, || format!("cannot accept: {}", io::Error::from(error)));
                    if AcceptBackoff::is_needed(error) {
                        let until = Instant::now() + backoff.pause();
                        this.server.control.wait_past(Phase::Serving, Some(until));
                    }
                }
            }
        }
    }
}

impl ServerContext {
    /// Starts a thread at each endpoint where nobody accepts because the system gave none. Tells when to try again.
    pub(in crate::blocking) fn start_acceptors(&self) -> Option<Instant> {
        let mut lacking = self.short_of_threads();
        lacking.retain(|acceptors| acceptors.lacks_thread() && Acceptors::start(acceptors).is_err());
        (!lacking.is_empty()).then(|| Instant::now() + SPAWN_RETRY)
    }

    fn short_of_threads(&self) -> MutexGuard<'_, Vec<Arc<Acceptors>>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_acceptors() -> usize {
    cores().map_or(4, |cores| (cores * 2).clamp(4, 8))
}

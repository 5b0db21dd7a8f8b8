//! The threads that accept at one endpoint, each of which serves what it accepts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::blocking::server::server::Shared;
use crate::blocking::server::shutdown::Stage;
use crate::blocking::thread_pool::{AGAIN, spawn};
use crate::config::cores::cores;
use crate::net::accept_backoff::Backoff;
use crate::net::listener::Peers;
use crate::net::socket;
use crate::telemetry::log::Matter;

/// The acceptors of one listener.
pub(in crate::blocking) struct Acceptors {
    shared: Arc<Shared>,
    /// Not held while a connection is served: a handler must not keep the endpoint from the next server.
    socket: Weak<OwnedFd>,
    peers: Peers,
    kept: usize,
    idle: AtomicUsize,
}

impl Acceptors {
    /// Starts the threads that accept at `socket`.
    pub(in crate::blocking) fn begin(
        shared: &Arc<Shared>,
        socket: Weak<OwnedFd>,
        peers: Peers,
    ) -> io::Result<()> {
        let kept = shared.admission.config.acceptors.unwrap_or_else(default_acceptors);
        let acceptors =
            Arc::new(Self { shared: shared.clone(), socket, peers, kept, idle: AtomicUsize::new(0) });
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
    fn is_lacking(&self) -> bool {
        self.idle.load(Ordering::Acquire) == 0
            && self.socket.strong_count() > 0
            && !self.shared.control.is_stopping()
    }

    /// Accepts and serves. There is always a thread that accepts: the last one to find a connection starts another
    /// before it serves; one that comes back and finds more than enough of them ends.
    fn run(this: &Arc<Self>) {
        let mut backoff = Backoff::new();
        let journal = &this.shared.admission.journal;
        loop {
            let Some(socket) = this.socket.upgrade() else { return };
            let accepted = socket::accept(&socket);
            // Before the socket is let go: a server that stops waits for that first, and then for what is arriving.
            let arriving = if accepted.is_ok() { this.shared.arriving.take(1) } else { None };
            drop(socket);
            match accepted {
                Ok(accepted) => {
                    backoff.reset();
                    if this.idle.fetch_sub(1, Ordering::AcqRel) == 1
                        && let Err(error) = Self::start(this)
                    {
                        journal.write(Matter::Accept, || format!("cannot start a thread: {error}"));
                        this.shared.lacking().push(this.clone());
                        this.shared.poller.look_by(Instant::now() + AGAIN);
                    }
                    this.shared.serve(accepted, this.peers, arriving);
                    // Starting threads that end at once would cost more than a few that stand ready.
                    if this.idle.fetch_add(1, Ordering::AcqRel) >= 2 * this.kept {
                        this.idle.fetch_sub(1, Ordering::AcqRel);
                        return;
                    }
                }
                Err(_) if this.shared.control.is_stopping() => return,
                Err(error) => {
                    journal.write(Matter::Accept, || format!("cannot accept: {}", io::Error::from(error)));
                    if Backoff::is_needed(error) {
                        let until = Instant::now() + backoff.pause();
                        this.shared.control.wait_past(Stage::Serving, Some(until));
                    }
                }
            }
        }
    }
}

impl Shared {
    /// Starts a thread at each endpoint where nobody accepts because the system gave none. Tells when to try again.
    pub(in crate::blocking) fn start_acceptors(&self) -> Option<Instant> {
        let mut lacking = self.lacking();
        lacking.retain(|acceptors| acceptors.is_lacking() && Acceptors::start(acceptors).is_err());
        (!lacking.is_empty()).then(|| Instant::now() + AGAIN)
    }

    fn lacking(&self) -> MutexGuard<'_, Vec<Arc<Acceptors>>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn default_acceptors() -> usize {
    cores().map_or(4, |cores| (cores * 2).clamp(4, 8))
}

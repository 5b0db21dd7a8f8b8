//! The graceful shutdown of a server: its phases, and how waiting threads are notified.

use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::config::tuning::MAX_BACKLOG;
use crate::net::listener::AllowedPeers;
use crate::net::process::Creator;
use crate::net::socket::{self, Accepted};
use crate::net::socket_file::SocketFile;

/// A handle that stops a server from any thread, see [`Server::handle`](crate::Server::handle).
#[derive(Clone)]
pub struct ServerHandle {
    pub(in crate::blocking) shutdown: Arc<Shutdown>,
}

/// The shutdown state of a server.
#[derive(Debug, Default)]
pub(in crate::blocking) struct Shutdown {
    phase: Mutex<Phase>,
    changed: Condvar,
    /// The process that serves.
    server: OnceLock<Creator>,
    listeners: Mutex<Listeners>,
    /// How many handlers run after their callers were answered without them.
    pub(in crate::blocking) leaked: Arc<AtomicUsize>,
}

/// The sockets that listen, and the connections that were in their backlogs when they stopped.
#[derive(Debug, Default)]
struct Listeners {
    open: Vec<Open>,
    last: Vec<(Accepted, AllowedPeers)>,
}

/// A socket that listens, with its file, which is removed first.
#[derive(Debug)]
struct Open {
    file: Option<SocketFile>,
    socket: Arc<OwnedFd>,
    peers: AllowedPeers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::blocking) enum Phase {
    #[default]
    Serving,
    /// No new work is accepted; calls in flight finish.
    Draining,
    /// The server no longer waits for calls in flight.
    Aborting,
    /// All calls have been answered.
    Ended,
}

impl ServerHandle {
    /// Begins a graceful shutdown. New connections are refused from now on. Requests that have not fully arrived are
    /// answered with the code `unavailable`. The calls in flight may finish within the [drain
    /// timeout](crate::ServerConfig::with_drain_timeout); the rest is answered with the code `cancelled`. Returns at
    /// once; [`Server::serve`](crate::Server::serve) returns when the shutdown is done.
    pub fn shutdown(&self) {
        self.shutdown.advance(Phase::Draining);
    }

    /// Stops the server without waiting for the calls in flight, which are answered with the code `cancelled`.
    pub fn abort(&self) {
        self.shutdown.advance(Phase::Aborting);
    }

    /// Returns how many handlers still run although their callers were answered without them, because they ran past
    /// their deadline.
    pub fn leaked_handlers(&self) -> usize {
        self.shutdown.leaked.load(Ordering::Relaxed)
    }
}

impl Shutdown {
    pub(in crate::blocking) fn phase(&self) -> Phase {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the listener `socket` when the server is stopped, or now if it is.
    pub(in crate::blocking) fn watch(
        &self,
        socket: Arc<OwnedFd>,
        file: Option<SocketFile>,
        peers: AllowedPeers,
    ) {
        self.listeners().open.push(Open { file, socket, peers });
        if self.is_stopping() {
            self.close_listeners();
        }
    }

    pub(in crate::blocking) fn is_stopping(&self) -> bool {
        self.phase() > Phase::Serving
    }

    pub(in crate::blocking) fn has_ended(&self) -> bool {
        self.phase() == Phase::Ended
    }

    /// Marks this process as the one that serves.
    pub(in crate::blocking) fn serve(&self) {
        self.server.get_or_init(Creator::this);
    }

    /// Whether no other process serves. In a fork of a server, the sockets belong to the parent.
    pub(in crate::blocking) fn is_ours(&self) -> bool {
        self.server.get().is_none_or(|server| server.is_this())
    }

    pub(in crate::blocking) fn advance(&self, phase: Phase) {
        if !self.is_ours() {
            return;
        }
        let mut current = self.lock();
        *current = phase.max(*current);
        drop(current);
        self.close_listeners();
        self.changed.notify_all();
    }

    /// Stops listening: new connections are refused, and threads blocked in accept return. Connections in the system's
    /// backlog are accepted for [`drain_backlog`](Self::drain_backlog): closing the socket would reset them, with
    /// requests that may have arrived.
    pub(in crate::blocking) fn close_listeners(&self) {
        let Listeners { open, last } = &mut *self.listeners();
        for Open { file, socket, peers } in open.drain(..) {
            // The next server may listen here from now on, while this one finishes its calls.
            drop(file);
            // From here on no further thread blocks in accept.
            let _ = rustix::io::ioctl_fionbio(&socket, true);
            let mut take = || {
                while last.len() < MAX_BACKLOG
                    && let Ok(accepted) = socket::accept(&socket)
                {
                    last.push((accepted, peers));
                }
            };
            take();
            socket::stop_listening(&socket);
            // A Unix socket keeps connections that came between the two.
            take();
        }
    }

    /// Takes the connections that were in the backlogs when the server was stopped.
    pub(in crate::blocking) fn drain_backlog(&self) -> Vec<(Accepted, AllowedPeers)> {
        mem::take(&mut self.listeners().last)
    }

    /// Wakes the waiting threads after a change.
    pub(in crate::blocking) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits until the server's phase is past `phase`, or `deadline`.
    pub(in crate::blocking) fn wait_past(&self, phase: Phase, deadline: Option<Instant>) {
        let mut current = self.lock();
        while *current <= phase {
            let left =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(current, left.min(Duration::from_secs(3600)));
            current = waited.map_or_else(|error| error.into_inner().0, |(current, _)| current);
        }
    }

    /// Waits for a notification, or until `deadline`.
    pub(in crate::blocking) fn wait_change(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.changed.wait_timeout(self.lock(), left);
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("phase", &self.shutdown.phase()).finish_non_exhaustive()
    }
}

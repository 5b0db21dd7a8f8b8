//! The graceful shutdown of a server: its phases, and how waiting tasks are notified.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::sync::Notify;
use ::tokio::sync::futures::Notified;
use ::tokio::time::Sleep;

use crate::config::tuning::MAX_BACKLOG;
use crate::net::listener::{self, AllowedPeers};
use crate::net::process::Creator;
use crate::net::socket::{self, Accepted};
use crate::net::socket_file::SocketFile;
use crate::tokio::clock;
use crate::tokio::server::sessions::Sessions;
use crate::tokio::transport::SessionSocket;

/// A handle that stops a server from any task or thread, see [`Server::handle`](crate::tokio::Server::handle).
#[derive(Clone)]
pub struct ServerHandle {
    pub(in crate::tokio) shutdown: Arc<Shutdown>,
}

/// The shutdown state of a server.
#[derive(Debug, Default)]
pub(in crate::tokio) struct Shutdown {
    /// A [`Phase`].
    phase: AtomicU8,
    changed: Notify,
    /// The process that serves.
    server: OnceLock<Creator>,
    listeners: Mutex<Vec<Weak<OpenListener>>>,
    pub(in crate::tokio) sessions: Sessions,
    /// How many handlers run after their callers were answered without them.
    pub(in crate::tokio) leaked: Arc<AtomicUsize>,
}

/// The phase of a server's shutdown. A serving server is below all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tokio) enum Phase {
    /// No new work is accepted; calls in flight finish.
    Draining = 1,
    /// The server no longer waits for calls in flight.
    Aborting = 2,
}

/// The timer and the shutdown notification that limit each wait of a task. They are made once and used by all waits of
/// the task, which keeps the task small.
#[derive(Debug)]
pub(in crate::tokio) struct Deadline<'task, 'server> {
    shutdown: &'server Shutdown,
    changed: Pin<&'task mut Notified<'server>>,
    timer: Pin<&'task mut Sleep>,
}

/// A socket that listens until the server is stopped.
#[derive(Debug)]
pub(in crate::tokio) struct OpenListener {
    socket: SessionSocket,
    pub(in crate::tokio) peers: AllowedPeers,
    /// The socket's file, until the listener is closed.
    file: Mutex<Option<SocketFile>>,
    /// The connections that were in the backlog when the listener was closed.
    last: Mutex<Vec<Accepted>>,
}

/// Why a wait ended.
#[derive(Debug)]
pub(in crate::tokio) enum Interrupted<T> {
    Done(T),
    /// The server has reached the phase.
    Stopped,
    /// The deadline has passed.
    Late,
}

impl ServerHandle {
    /// Begins a graceful shutdown. New connections are refused from now on. Requests that have not fully arrived are
    /// answered with the code `unavailable`. The calls in flight may finish within the [drain
    /// timeout](crate::ServerConfig::with_drain_timeout); the rest is answered with the code `cancelled`. Returns at
    /// once; [`Server::serve`](crate::tokio::Server::serve) returns when the shutdown is done.
    pub fn shutdown(&self) {
        self.shutdown.advance(Phase::Draining);
    }

    /// Stops the server without waiting for the calls in flight, which are answered with the code `cancelled`.
    pub fn abort(&self) {
        self.shutdown.advance(Phase::Aborting);
    }

    /// Returns how many blocking handlers still run although their callers were answered without them, because they ran
    /// past their deadline. Async handlers are dropped and never count.
    pub fn leaked_handlers(&self) -> usize {
        self.shutdown.leaked.load(Ordering::Relaxed)
    }
}

impl Shutdown {
    pub(in crate::tokio) fn has_reached(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Returns a future that is ready at the next change of the phase.
    pub(in crate::tokio) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Marks this process as the one that serves.
    pub(in crate::tokio) fn serve(&self) {
        self.server.get_or_init(Creator::this);
    }

    pub(in crate::tokio) fn advance(&self, phase: Phase) {
        // In a fork of a server, the sockets belong to the parent.
        if self.server.get().is_some_and(|server| !server.is_this()) {
            return;
        }
        // Close before notifying, or a task that is notified finds that clients can still connect.
        for listener in self.listeners().iter().filter_map(Weak::upgrade) {
            listener.close();
        }
        self.sessions.drain();
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.changed.notify_waiters();
        }
        // Sessions that were entered meanwhile.
        match phase {
            Phase::Draining => self.sessions.drain(),
            Phase::Aborting => self.sessions.abort(),
        }
    }

    /// Closes `listener` when the server is stopped, or now if it is.
    pub(in crate::tokio) fn watch(&self, listener: &Arc<OpenListener>) {
        self.listeners().push(Arc::downgrade(listener));
        if self.has_reached(Phase::Draining) {
            listener.close();
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Weak<OpenListener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenListener {
    pub(in crate::tokio) fn open(listener: listener::OpenListener, peers: AllowedPeers) -> io::Result<Self> {
        let listener::OpenListener { socket, file } = listener;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: SessionSocket::new(socket)?,
            peers,
            file: Mutex::new(file),
            last: Mutex::default(),
        })
    }

    /// Accepts the next connection, without waiting.
    pub(in crate::tokio) fn accept(&self) -> io::Result<Accepted> {
        self.socket.attempt(Interest::READABLE, |socket| Ok(socket::accept(socket)?))
    }

    /// Becomes ready when a connection has arrived.
    pub(in crate::tokio) fn poll_arrival(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// Stops listening: new connections are refused. Connections in the backlog are accepted for
    /// [`drain_backlog`](Self::drain_backlog).
    fn close(&self) {
        // The next server may listen here from now on, while this one finishes its calls.
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut last = self.lock();
        // Closing the socket would reset the connections in the backlog, with requests that may have arrived.
        let mut take = || {
            while last.len() < MAX_BACKLOG
                && let Ok(accepted) = socket::accept(self.socket.as_fd())
            {
                last.push(accepted);
            }
        };
        take();
        socket::stop_listening(self.socket.as_fd());
        // A Unix socket keeps connections that came between the two.
        take();
    }

    /// Takes the connections that were in the backlog when the listener was closed. Closes it now if a stop has missed
    /// it.
    pub(in crate::tokio) fn drain_backlog(&self) -> Vec<Accepted> {
        self.close();
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'task, 'server> Deadline<'task, 'server> {
    pub(in crate::tokio) fn new(
        shutdown: &'server Shutdown,
        changed: Pin<&'task mut Notified<'server>>,
        timer: Pin<&'task mut Sleep>,
    ) -> Self {
        Self { shutdown, changed, timer }
    }

    /// Waits until `work` is ready, the server reaches `phase`, or `deadline` passes. If several hold at a time, the
    /// first of these counts.
    pub(in crate::tokio) async fn unless<T>(
        &mut self,
        phase: Phase,
        deadline: Option<Instant>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Interrupted<T> {
        poll_fn(|context| match work(context) {
            Poll::Ready(done) => Poll::Ready(Interrupted::Done(done)),
            Poll::Pending if self.poll_phase(phase, context).is_ready() => Poll::Ready(Interrupted::Stopped),
            Poll::Pending => self.poll_deadline(deadline, context).map(|()| Interrupted::Late),
        })
        .await
    }

    fn poll_phase(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<()> {
        while !self.shutdown.has_reached(phase) {
            // The future has seen every change since it was made, so none between the check and the wait is lost.
            ready!(self.changed.as_mut().poll(context));
            self.changed.set(self.shutdown.changed());
        }
        Poll::Ready(())
    }

    fn poll_deadline(&mut self, deadline: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        clock::poll_until(self.timer.as_mut(), deadline, context)
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopping = self.shutdown.has_reached(Phase::Draining);
        f.debug_struct("ServerHandle").field("stopping", &stopping).finish_non_exhaustive()
    }
}

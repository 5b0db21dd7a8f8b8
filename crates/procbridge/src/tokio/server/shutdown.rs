//! The life of a server: who stops it, and how everybody who waits hears of it.

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

use crate::net::listener::{self, AllowedPeers};
use crate::net::process::Creator;
use crate::net::socket::{self, Accepted};
use crate::net::socket_file::SocketFile;
use crate::tokio::clock;
use crate::tokio::server::sessions::Sessions;
use crate::tokio::transport::SessionSocket;

/// Stops a server from anywhere, see [`Server::handle`](crate::tokio::Server::handle).
#[derive(Clone)]
pub struct ServerHandle {
    pub(in crate::tokio) control: Arc<Shutdown>,
}

/// The state of a server's life.
#[derive(Debug, Default)]
pub(in crate::tokio) struct Shutdown {
    /// A [`Phase`].
    phase: AtomicU8,
    changed: Notify,
    /// The process that serves.
    server: OnceLock<Creator>,
    gates: Mutex<Vec<Weak<OpenListener>>>,
    pub(in crate::tokio) sessions: Sessions,
    /// Handlers at work for nobody.
    pub(in crate::tokio) leaked: Arc<AtomicUsize>,
}

/// How far a server's end has come. It begins below all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tokio) enum Phase {
    /// No new work; what runs is finished.
    Draining = 1,
    /// What runs is not waited for any longer.
    Aborting = 2,
}

/// What a task waits with besides what it waits for: a timer, and an ear for the server's end. They are made once and
/// serve all waits of the task, which keeps the task small.
#[derive(Debug)]
pub(in crate::tokio) struct Deadline<'task, 'server> {
    control: &'server Shutdown,
    changed: Pin<&'task mut Notified<'server>>,
    timer: Pin<&'task mut Sleep>,
}

/// A socket that listens until the server is stopped.
#[derive(Debug)]
pub(in crate::tokio) struct OpenListener {
    socket: SessionSocket,
    pub(in crate::tokio) peers: AllowedPeers,
    /// The socket's file, until the gate is closed.
    file: Mutex<Option<SocketFile>>,
    /// The connections that were in the queue when the gate was closed.
    last: Mutex<Vec<Accepted>>,
}

/// Why a wait is over.
#[derive(Debug)]
pub(in crate::tokio) enum Interrupted<T> {
    Done(T),
    /// The server has reached the stage.
    Stopped,
    /// The deadline has passed.
    Late,
}

impl ServerHandle {
    /// Stops the server in an orderly way: new connections are refused from now on, requests that have not fully
    /// arrived are answered with the code `unavailable`, the calls in flight are finished within the
    /// [drain time](crate::ServerConfig::with_drain_timeout) and then answered with the code `cancelled`. Returns at
    /// once; [`Server::serve`](crate::tokio::Server::serve) returns when it is done.
    pub fn stop(&self) {
        self.control.advance(Phase::Draining);
    }

    /// Stops the server without waiting for the calls in flight, which are answered with the code `cancelled`.
    pub fn abort(&self) {
        self.control.advance(Phase::Aborting);
    }

    /// Blocking handlers that are still at work although their callers have been answered without them: they ran past
    /// their time limit. Async handlers are dropped and never count.
    pub fn leaked_handlers(&self) -> usize {
        self.control.leaked.load(Ordering::Relaxed)
    }
}

impl Shutdown {
    pub(in crate::tokio) fn has_reached(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Ends with the next change of the stage.
    pub(in crate::tokio) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Has this process be the one that serves.
    pub(in crate::tokio) fn serve(&self) {
        self.server.get_or_init(Creator::this);
    }

    pub(in crate::tokio) fn advance(&self, phase: Phase) {
        // In a fork of a server the sockets are the server's.
        if self.server.get().is_some_and(|server| !server.is_this()) {
            return;
        }
        // First, so that whoever hears of the stop finds that nobody can connect or call any more.
        for gate in self.gates().iter().filter_map(Weak::upgrade) {
            gate.close();
        }
        self.sessions.drain();
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.changed.notify_waiters();
        }
        // Those that have come since.
        match phase {
            Phase::Draining => self.sessions.drain(),
            Phase::Aborting => self.sessions.abort(),
        }
    }

    /// Closes `gate` when the server is stopped, or now if that has happened.
    pub(in crate::tokio) fn watch(&self, gate: &Arc<OpenListener>) {
        self.gates().push(Arc::downgrade(gate));
        if self.has_reached(Phase::Draining) {
            gate.close();
        }
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Weak<OpenListener>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenListener {
    pub(in crate::tokio) fn open(gate: listener::OpenListener, peers: AllowedPeers) -> io::Result<Self> {
        let listener::OpenListener { socket, file } = gate;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: SessionSocket::new(socket)?,
            peers,
            file: Mutex::new(file),
            last: Mutex::default(),
        })
    }

    /// Takes the next connection, without waiting.
    pub(in crate::tokio) fn accept(&self) -> io::Result<Accepted> {
        self.socket.attempt(Interest::READABLE, |socket| Ok(socket::accept(socket)?))
    }

    /// Ready when there is a connection.
    pub(in crate::tokio) fn poll_arrival(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// Ends listening. Who connects from now on is refused; who has connected is among the [last](Self::drain_backlog).
    fn close(&self) {
        // The next server may listen here from now on, while this one finishes its calls.
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut last = self.lock();
        // Closing resets what is in the queue of the system, with the requests that may have arrived.
        let mut take = || {
            while last.len() < MAX_BACKLOG
                && let Ok(accepted) = socket::accept(self.socket.as_fd())
            {
                last.push(accepted);
            }
        };
        take();
        socket::stop_listening(self.socket.as_fd());
        // A Unix socket keeps what came between the two.
        take();
    }

    /// Takes the connections that were there when the gate was closed. It is closed now if a stop has missed it.
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
        control: &'server Shutdown,
        changed: Pin<&'task mut Notified<'server>>,
        timer: Pin<&'task mut Sleep>,
    ) -> Self {
        Self { control, changed, timer }
    }

    /// Waits until `work` is ready, unless the server reaches `stage` or `deadline` comes first. What is there at the same
    /// time counts in this order.
    pub(in crate::tokio) async fn unless<T>(
        &mut self,
        phase: Phase,
        deadline: Option<Instant>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Interrupted<T> {
        poll_fn(|context| match work(context) {
            Poll::Ready(done) => Poll::Ready(Interrupted::Done(done)),
            Poll::Pending if self.poll_stage(phase, context).is_ready() => Poll::Ready(Interrupted::Stopped),
            Poll::Pending => self.poll_deadline(deadline, context).map(|()| Interrupted::Late),
        })
        .await
    }

    fn poll_stage(&mut self, phase: Phase, context: &mut Context<'_>) -> Poll<()> {
        while !self.control.has_reached(phase) {
            // It hears of every change since it was made, so none is missed between the look and the wait.
            ready!(self.changed.as_mut().poll(context));
            self.changed.set(self.control.changed());
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
        let stopping = self.control.has_reached(Phase::Draining);
        f.debug_struct("ServerHandle").field("stopping", &stopping).finish_non_exhaustive()
    }
}

/// More than any queue of the system holds: the settings have no larger number for it.
const MAX_BACKLOG: usize = u16::MAX as usize;

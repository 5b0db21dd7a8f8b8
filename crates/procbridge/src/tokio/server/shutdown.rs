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

use crate::net::listener::{self, Peers};
use crate::net::process::Maker;
use crate::net::socket::{self, Accepted};
use crate::net::socket_file::SocketFile;
use crate::tokio::clock;
use crate::tokio::server::sessions::Sessions;
use crate::tokio::transport::Watched;

/// Stops a server from anywhere, see [`Server::handle`](crate::tokio::Server::handle).
#[derive(Clone)]
pub struct ServerHandle {
    pub(in crate::tokio) control: Arc<Control>,
}

/// The state of a server's life.
#[derive(Debug, Default)]
pub(in crate::tokio) struct Control {
    /// A [`Stage`].
    stage: AtomicU8,
    changed: Notify,
    /// The process that serves.
    server: OnceLock<Maker>,
    gates: Mutex<Vec<Weak<Gate>>>,
    pub(in crate::tokio) sessions: Sessions,
    /// Handlers at work for nobody.
    pub(in crate::tokio) leaked: Arc<AtomicUsize>,
}

/// How far a server's end has come. It begins below all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tokio) enum Stage {
    /// No new work; what runs is finished.
    Draining = 1,
    /// What runs is not waited for any longer.
    Aborting = 2,
}

/// What a task waits with besides what it waits for: a timer, and an ear for the server's end. They are made once and
/// serve all waits of the task, which keeps the task small.
#[derive(Debug)]
pub(in crate::tokio) struct Patience<'task, 'server> {
    control: &'server Control,
    changed: Pin<&'task mut Notified<'server>>,
    timer: Pin<&'task mut Sleep>,
}

/// A socket that listens until the server is stopped.
#[derive(Debug)]
pub(in crate::tokio) struct Gate {
    socket: Watched,
    pub(in crate::tokio) peers: Peers,
    /// The socket's file, until the gate is closed.
    file: Mutex<Option<SocketFile>>,
    /// The connections that were in the queue when the gate was closed.
    last: Mutex<Vec<Accepted>>,
}

/// Why a wait is over.
#[derive(Debug)]
pub(in crate::tokio) enum Woken<T> {
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
        self.control.advance(Stage::Draining);
    }

    /// Stops the server without waiting for the calls in flight, which are answered with the code `cancelled`.
    pub fn abort(&self) {
        self.control.advance(Stage::Aborting);
    }

    /// Blocking handlers that are still at work although their callers have been answered without them: they ran past
    /// their time limit. Async handlers are dropped and never count.
    pub fn leaked_handlers(&self) -> usize {
        self.control.leaked.load(Ordering::Relaxed)
    }
}

impl Control {
    pub(in crate::tokio) fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Ends with the next change of the stage.
    pub(in crate::tokio) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Has this process be the one that serves.
    pub(in crate::tokio) fn serve(&self) {
        self.server.get_or_init(Maker::this);
    }

    pub(in crate::tokio) fn advance(&self, stage: Stage) {
        // In a fork of a server the sockets are the server's.
        if self.server.get().is_some_and(|server| !server.is_this()) {
            return;
        }
        // First, so that whoever hears of the stop finds that nobody can connect or call any more.
        for gate in self.gates().iter().filter_map(Weak::upgrade) {
            gate.close();
        }
        self.sessions.drain();
        if self.stage.fetch_max(stage as u8, Ordering::AcqRel) < stage as u8 {
            self.changed.notify_waiters();
        }
        // Those that have come since.
        match stage {
            Stage::Draining => self.sessions.drain(),
            Stage::Aborting => self.sessions.abort(),
        }
    }

    /// Closes `gate` when the server is stopped, or now if that has happened.
    pub(in crate::tokio) fn watch(&self, gate: &Arc<Gate>) {
        self.gates().push(Arc::downgrade(gate));
        if self.has_reached(Stage::Draining) {
            gate.close();
        }
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Weak<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    pub(in crate::tokio) fn open(gate: listener::Gate, peers: Peers) -> io::Result<Self> {
        let listener::Gate { socket, file } = gate;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: Watched::new(socket)?, peers, file: Mutex::new(file), last: Mutex::default() })
    }

    /// Takes the next connection, without waiting.
    pub(in crate::tokio) fn accept(&self) -> io::Result<Accepted> {
        self.socket.attempt(Interest::READABLE, |socket| Ok(socket::accept(socket)?))
    }

    /// Ready when there is a connection.
    pub(in crate::tokio) fn poll_arrival(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// Ends listening. Who connects from now on is refused; who has connected is among the [last](Self::last).
    fn close(&self) {
        // The next server may listen here from now on, while this one finishes its calls.
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut last = self.lock();
        // Closing resets what is in the queue of the system, with the requests that may have arrived.
        let mut take = || {
            while last.len() < QUEUED
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
    pub(in crate::tokio) fn last(&self) -> Vec<Accepted> {
        self.close();
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'task, 'server> Patience<'task, 'server> {
    pub(in crate::tokio) fn new(
        control: &'server Control,
        changed: Pin<&'task mut Notified<'server>>,
        timer: Pin<&'task mut Sleep>,
    ) -> Self {
        Self { control, changed, timer }
    }

    /// Waits until `work` is ready, unless the server reaches `stage` or `deadline` comes first. What is there at the same
    /// time counts in this order.
    pub(in crate::tokio) async fn unless<T>(
        &mut self,
        stage: Stage,
        deadline: Option<Instant>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Woken<T> {
        poll_fn(|context| match work(context) {
            Poll::Ready(done) => Poll::Ready(Woken::Done(done)),
            Poll::Pending if self.poll_stage(stage, context).is_ready() => Poll::Ready(Woken::Stopped),
            Poll::Pending => self.poll_deadline(deadline, context).map(|()| Woken::Late),
        })
        .await
    }

    fn poll_stage(&mut self, stage: Stage, context: &mut Context<'_>) -> Poll<()> {
        while !self.control.has_reached(stage) {
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
        let stopping = self.control.has_reached(Stage::Draining);
        f.debug_struct("ServerHandle").field("stopping", &stopping).finish_non_exhaustive()
    }
}

/// More than any queue of the system holds: the settings have no larger number for it.
const QUEUED: usize = u16::MAX as usize;

//! The task of one session. It reads for all waiting tasks, begins the handlers of incoming calls, writes what other
//! tasks could not, and checks the clock.
//!
//! The calls of one read begin one after the other, each with one poll of its handler, and their answers are sent with
//! one write. A handler that has not ended by then goes on in a task of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::sync::Notify;
use ::tokio::time::{Sleep, sleep_until};

use crate::classic::server::LINGER_BYTES;
use crate::net::socket::Read;
use crate::session::Session;
use crate::session::driver::Snapshot;
use crate::session::end::End;
use crate::session::writing::Flushed;
use crate::tokio::call_task::{self, Methods, StartedCall};
use crate::tokio::clock;
use crate::tokio::router::Router;
use crate::tokio::server::context::{ServerContext, TaskGuard};
use crate::tokio::server::shutdown::Phase;
use crate::tokio::transport::SessionSocket;

/// Reads a session and serves its calls until it ends.
pub(super) struct SessionTask {
    session: Arc<Session>,
    socket: SessionSocket,
    serves: Role,
    /// Fires when the clock must be checked, at the latest when something is due.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the server's clock notifies the task, which spares an idle session a timer of its own.
    notified_at: Option<Instant>,
    /// How many bytes may still be read of a session that has ended.
    linger: Option<u32>,
    /// Whether it has let other tasks run first.
    has_yielded: bool,
}

/// The side for which a session is driven.
pub(super) enum Role {
    /// The server ends after its sessions have ended.
    Server { server: Arc<ServerContext>, id: u64, busy: Option<TaskGuard>, _alive: TaskGuard },
    Client {
        /// The methods that the server may call, if any.
        router: Option<Arc<Router>>,
        /// Notified when the session takes no more calls, and when it has ended.
        changed: Arc<Notify>,
        is_notified: bool,
    },
}

impl SessionTask {
    pub(super) fn new(session: Arc<Session>, socket: SessionSocket, serves: Role) -> Self {
        Self { session, socket, serves, timer: None, notified_at: None, linger: None, has_yielded: false }
    }

    /// Serves what was read, for at most [`MAX_POLL_TIME`] or one call longer. The handlers begin one after the other;
    /// the answer of one that ends at once is queued before the next begins.
    fn serve(&self, context: &Context<'_>) {
        let Self { session, serves, .. } = self;
        let mut answered = None;
        // Each call begins when the one before it ended.
        let (mut first, mut now) = (None, None);
        while let Some(work) = session.next_incoming(answered.take()) {
            let began = now.take().unwrap_or_else(Instant::now);
            let first = *first.get_or_insert(began);
            let begun = match serves {
                Role::Server { server, .. } => {
                    let methods = || Methods::Server(server.clone());
                    call_task::begin(&server.router, session, work, began, || Some(server.alive()), methods)
                }
                Role::Client { router: Some(router), .. } => call_task::begin(
                    router,
                    session,
                    work,
                    began,
                    || None,
                    || Methods::Client(router.clone()),
                ),
                Role::Client { router: None, .. } => continue,
            };
            now = match begun {
                StartedCall::Answered { id, answer, ended } => {
                    answered = Some((id, answer));
                    ended
                }
                StartedCall::GoesOn { ended } => ended,
                StartedCall::Apart => {
                    // The new task is the next one on this thread, which it may block. A task that yields wakes another
                    // thread of the runtime and goes on there. Without that, no thread might poll the sockets.
                    context.waker().wake_by_ref();
                    None
                }
            };
            if now.is_some_and(|now| now.saturating_duration_since(first) >= MAX_POLL_TIME) {
                if let Some((id, answer)) = answered {
                    session.reply(id, answer);
                }
                return;
            }
        }
    }

    /// Writes once the socket takes more bytes. Ready if there is more to do.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_writable(context))?;
        // If it is blocked again, the next poll finds that.
        let _ = self.socket.attempt(Interest::WRITABLE, |_| match self.session.flush() {
            Flushed::All => Ok(()),
            Flushed::Blocked => Err(io::Error::from(io::ErrorKind::WouldBlock)),
        });
        Poll::Ready(Ok(()))
    }

    /// Reads what has arrived. Ready if something may have arrived.
    fn poll_read(&mut self, is_blocked: bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !is_blocked {
            self.socket.is_writing_at_once()?;
        }
        ready!(self.socket.poll_readable(context))?;
        if self.session.read_once(|buffer| self.socket.read(buffer)) {
            self.serve(context);
        }
        Poll::Ready(Ok(()))
    }

    /// Does what is due. Ready if the session may have changed by that.
    fn poll_time(&mut self, snapshot: &Snapshot, context: &mut Context<'_>) -> Poll<()> {
        // Something may have become due earlier than planned.
        if let Some(due) = snapshot.due
            && self.planned().is_some_and(|planned| due < planned)
        {
            self.set_timer(due);
        }
        if self.timer.is_some() {
            ready!(self.poll_timer(context));
        } else if self.notified_at.is_some() {
            return Poll::Pending;
        }
        if !self.keep_time(clock::now()) {
            return if self.session.has_ended() { Poll::Ready(()) } else { Poll::Pending };
        }
        self.poll_timer(context)
    }

    /// Does what is due at `now`, and plans the next check of the clock. Returns whether there is one.
    fn keep_time(&mut self, now: Instant) -> bool {
        let Some(next) = self.session.tick(now) else {
            self.timer = None;
            return false;
        };
        if let Role::Server { server, id, .. } = &self.serves
            && next.saturating_duration_since(now) >= MAX_TIMER
        {
            self.timer = None;
            if self.notified_at.is_none_or(|notified_at| next < notified_at) {
                server.shutdown.sessions.plan(*id, next);
                self.notified_at = Some(next);
            }
            return true;
        }
        self.set_timer(next);
        true
    }

    /// Whether something was due when input last arrived, by the clock reading of then, however much there is to read.
    fn is_due(&self, snapshot: &Snapshot) -> bool {
        let planned = self.planned();
        planned.is_none() || planned.into_iter().chain(snapshot.due).any(|due| due <= snapshot.heard)
    }

    /// Returns when the task checks the clock next.
    fn planned(&self) -> Option<Instant> {
        let timer = self.timer.as_ref().map(|timer| timer.deadline().into_std());
        timer.into_iter().chain(self.notified_at).min()
    }

    /// Parks the task. Returns false if there is something to do.
    fn park(&self, snapshot: &Snapshot, context: &Context<'_>) -> bool {
        self.session.park(context.waker(), snapshot, self.planned())
    }

    fn set_timer(&mut self, due: Instant) {
        match &mut self.timer {
            Some(timer) if timer.deadline().into_std() == due => {}
            Some(timer) => timer.as_mut().reset(due.into()),
            None => self.timer = Some(Box::pin(sleep_until(due.into()))),
        }
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| {
            let due = timer.deadline().into_std();
            clock::poll_until(timer.as_mut(), due, context)
        })
    }

    /// Handles the end of the session: it may have to linger, and calls may go on whose callers have gone.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_linger(context));
        self.linger = Some(0);
        self.session.poll_drained(context.waker())
    }

    /// Drops what the peer still sends, for a while, if the peer must learn why the session ended and the server has
    /// not ended.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.session.must_linger() {
            return Poll::Ready(());
        }
        if self.linger.is_none() {
            self.linger = Some(LINGER_BYTES as u32);
            // From here on a stopping server does not wait for it.
            if let Role::Server { busy, .. } = &mut self.serves {
                *busy = None;
            }
            let limit = clock::now().checked_add(self.session.admission.config.linger_timeout);
            let Some(limit) = limit else { return Poll::Ready(()) };
            self.set_timer(limit);
        }
        if let Role::Server { server, .. } = &self.serves {
            // Register before checking, or a stop in between is lost.
            self.session.set_standby(context.waker());
            if server.shutdown.has_reached(Phase::Aborting) {
                return Poll::Ready(());
            }
        }
        let mut rounds = MAX_ROUNDS;
        while self.linger > Some(0) && self.poll_timer(context).is_pending() {
            if ready!(self.socket.poll_readable(context)).is_err() {
                return Poll::Ready(());
            }
            match self.socket.discard() {
                Ok(Read::Bytes(count)) => {
                    self.session.admission.stats.received(count);
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    self.linger = self.linger.map(|left| left.saturating_sub(count));
                    rounds -= 1;
                    if rounds == 0 {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Ok(Read::Nothing) => {}
                Ok(Read::End) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl Future for SessionTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let driver = &mut *self;
        if !driver.has_yielded && driver.session.has_pending_flush() {
            // Tasks that run before this one's next poll may have something to write too.
            driver.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        driver.has_yielded = false;
        // When this poll first read, and whether it has served what it read.
        let (mut since, mut has_served) = (None, false);
        for _ in 0..MAX_ROUNDS {
            let snapshot = driver.session.snapshot();
            if snapshot.is_notified {
                // The task is notified no more until the next plan, which `keep_time` makes.
                driver.notified_at = None;
            }
            if snapshot.wakes_large {
                // The caller of a large message is the next task on this thread, as a new task is.
                context.waker().wake_by_ref();
            }
            if !snapshot.is_open {
                driver.serves.notify_client();
            }
            if has_served {
                let since = *since.get_or_insert(snapshot.heard);
                // The clock is checked however much arrives.
                if !snapshot.has_ended && driver.is_due(&snapshot) {
                    driver.keep_time(snapshot.heard);
                }
                // The rest is served in the next poll.
                if snapshot.has_incoming || snapshot.heard.saturating_duration_since(since) >= MAX_POLL_TIME {
                    break;
                }
            }
            if snapshot.has_incoming {
                driver.serve(context);
                has_served = true;
                continue;
            }
            if snapshot.has_ended {
                return driver.poll_end(context);
            }
            // Small calls come and go while a large message is written, so each round does both.
            let (mut written, mut read) = (Poll::Pending, Poll::Pending);
            if snapshot.is_blocked {
                written = driver.poll_write(context);
            }
            if !snapshot.is_reading_paused {
                read = driver.poll_read(snapshot.is_blocked, context);
                has_served |= read.is_ready();
            }
            match (written, read) {
                // The runtime is ending, and this task with it.
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
                (Poll::Pending, Poll::Pending) => {}
                _ => continue,
            }
            if driver.poll_time(&snapshot, context).is_pending() && driver.park(&snapshot, context) {
                return Poll::Pending;
            }
        }
        // Yield: a peer that sends as fast as it is read must not keep the thread.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Role {
    /// Notifies the client that the session takes no more calls.
    fn notify_client(&mut self) {
        if let Self::Client { changed, is_notified, .. } = self
            && !*is_notified
        {
            *is_notified = true;
            changed.notify_waiters();
        }
    }
}

impl Drop for SessionTask {
    fn drop(&mut self) {
        // No other task reads the session, whatever has ended this one. If its runtime ends, the handlers end too.
        self.session.close(End::Closed);
        self.session.drop_calls();
        match &mut self.serves {
            Role::Server { server, id, .. } => server.shutdown.sessions.leave(*id),
            serves @ Role::Client { .. } => serves.notify_client(),
        }
    }
}

/// Later deadlines than this are left to the server's clock, which may be a second late.
const MAX_TIMER: Duration = Duration::from_secs(4);
/// The most rounds of one poll before other tasks run.
const MAX_ROUNDS: u32 = 32;
/// The most time of one poll before other tasks run, as far as the session decides that.
const MAX_POLL_TIME: Duration = Duration::from_micros(500);

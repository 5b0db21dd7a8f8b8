//! The task of one session: it reads for all who wait there, begins the handlers of the calls that come, writes what
//! others could not, and looks at the clock.
//!
//! The calls of one read are begun one after the other, each with one look at its handler, and what they answer goes out
//! with one write. A handler that is not done by then goes on in a task of its own.

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
use crate::session::state::End;
use crate::session::state::Flushed;
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
    /// When to look at the clock: at the latest when something is due.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the server's clock rings, which spares a quiet session a timer of its own.
    rings: Option<Instant>,
    /// Bytes that may still be read of a session that is over.
    linger: Option<u32>,
    /// Whether it has let others go first.
    has_waited: bool,
}

/// On whose behalf a session is driven.
pub(super) enum Role {
    /// The server ends when its sessions have.
    Server { server: Arc<ServerContext>, id: u64, busy: Option<TaskGuard>, _alive: TaskGuard },
    Client {
        /// The methods for the server to call, if there are any.
        router: Option<Arc<Router>>,
        /// Told when the session takes no more calls, and when it has ended.
        changed: Arc<Notify>,
        is_told: bool,
    },
}

impl SessionTask {
    pub(super) fn new(session: Arc<Session>, socket: SessionSocket, serves: Role) -> Self {
        Self { session, socket, serves, timer: None, rings: None, linger: None, has_waited: false }
    }

    /// Looks at what was read, as far as that takes no longer than a [portion](MAX_POLL_TIME). The handlers of calls are begun one
    /// after the other; what one answers at once is queued before the next one begins.
    fn serve(&self, context: &Context<'_>) {
        let Self { session, serves, .. } = self;
        let mut answered = None;
        // Where one ends the next one begins.
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
                    // The new task is the next one on this thread, which it may hold. A task that yields wakes another
                    // thread of the runtime, and goes on there: else none might look at the sockets.
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

    /// Writes once the socket takes more. Ready if there is more to be seen to.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_writable(context))?;
        // Blocked again, which the next look finds.
        let _ = self.socket.attempt(Interest::WRITABLE, |_| match self.session.flush() {
            Flushed::All => Ok(()),
            Flushed::Blocked => Err(io::Error::from(io::ErrorKind::WouldBlock)),
        });
        Poll::Ready(Ok(()))
    }

    /// Reads what has arrived. Ready if something may have.
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
        // What was planned may be later than what has become due since.
        if let Some(due) = snapshot.due
            && self.planned().is_some_and(|planned| due < planned)
        {
            self.set_timer(due);
        }
        if self.timer.is_some() {
            ready!(self.poll_timer(context));
        } else if self.rings.is_some() {
            return Poll::Pending;
        }
        if !self.keep_time(clock::now()) {
            return if self.session.has_ended() { Poll::Ready(()) } else { Poll::Pending };
        }
        self.poll_timer(context)
    }

    /// Does what is due at `now`, and plans the next look at the clock. Tells whether there is one.
    fn keep_time(&mut self, now: Instant) -> bool {
        let Some(next) = self.session.tick(now) else {
            self.timer = None;
            return false;
        };
        if let Role::Server { server, id, .. } = &self.serves
            && next.saturating_duration_since(now) >= MAX_TIMER
        {
            self.timer = None;
            if self.rings.is_none_or(|rings| next < rings) {
                server.control.sessions.plan(*id, next);
                self.rings = Some(next);
            }
            return true;
        }
        self.set_timer(next);
        true
    }

    /// Whether something is due by what the clock said when something `heard` last arrived, however much there is to be
    /// read.
    fn is_due(&self, snapshot: &Snapshot) -> bool {
        let planned = self.planned();
        planned.is_none() || planned.into_iter().chain(snapshot.due).any(|due| due <= snapshot.heard)
    }

    /// When it looks at the clock next.
    fn planned(&self) -> Option<Instant> {
        let timer = self.timer.as_ref().map(|timer| timer.deadline().into_std());
        timer.into_iter().chain(self.rings).min()
    }

    /// Waits, unless there is something to be seen to.
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

    /// The session is over, with or without a word to its peer, and with calls that nobody waits for.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_linger(context));
        self.linger = Some(0);
        self.session.poll_drained(context.waker())
    }

    /// What the peer still sends is dropped for a while if it must hear why, and the server has not ended.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.session.must_linger() {
            return Poll::Ready(());
        }
        if self.linger.is_none() {
            self.linger = Some(LINGER_BYTES as u32);
            // From here on the server does not wait for it.
            if let Role::Server { busy, .. } = &mut self.serves {
                *busy = None;
            }
            let limit = clock::now().checked_add(self.session.admission.config.linger_timeout);
            let Some(limit) = limit else { return Poll::Ready(()) };
            self.set_timer(limit);
        }
        if let Role::Server { server, .. } = &self.serves {
            // First the word to be told, then the look.
            self.session.set_standby(context.waker());
            if server.control.has_reached(Phase::Aborting) {
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
        if !driver.has_waited && driver.session.has_pending_flush() {
            // Those who are to run before this task's next turn may have something to be written too.
            driver.has_waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        driver.has_waited = false;
        // When this turn read first, and whether it has served what it read.
        let (mut since, mut has_served) = (None, false);
        for _ in 0..MAX_ROUNDS {
            let snapshot = driver.session.snapshot();
            if snapshot.is_notified {
                // There will be no other ring until one is planned, which keep_time does.
                driver.rings = None;
            }
            if snapshot.wakes_large {
                // That caller is the next one on this thread, as a new task is.
                context.waker().wake_by_ref();
            }
            if !snapshot.is_open {
                driver.serves.tell();
            }
            if has_served {
                let since = *since.get_or_insert(snapshot.heard);
                // The clock is looked at whatever arrives.
                if !snapshot.has_ended && driver.is_due(&snapshot) {
                    driver.keep_time(snapshot.heard);
                }
                // What is left is served in another turn.
                if snapshot.has_work || snapshot.heard.saturating_duration_since(since) >= MAX_POLL_TIME {
                    break;
                }
            }
            if snapshot.has_work {
                driver.serve(context);
                has_served = true;
                continue;
            }
            if snapshot.has_ended {
                return driver.poll_end(context);
            }
            // Small calls come and go while something large is written, so each look does both.
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
        // A peer that sends as fast as it is read must not keep the thread.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Role {
    /// Tells that the session takes no more calls.
    fn tell(&mut self) {
        if let Self::Client { changed, is_told, .. } = self
            && !*is_told
        {
            *is_told = true;
            changed.notify_waiters();
        }
    }
}

impl Drop for SessionTask {
    fn drop(&mut self) {
        // Nobody else would read the session, whatever has ended this task. With its runtime the handlers go too.
        self.session.close(End::Closed);
        self.session.drop_calls();
        match &mut self.serves {
            Role::Server { server, id, .. } => server.control.sessions.leave(*id),
            serves @ Role::Client { .. } => serves.tell(),
        }
    }
}

/// What is due so much later is left to the server's clock, which may be a second late.
const MAX_TIMER: Duration = Duration::from_secs(4);
/// Looks at a session before others have their turn.
const MAX_ROUNDS: u32 = 32;
/// How long a turn may take before others have theirs, as far as the session decides that.
const MAX_POLL_TIME: Duration = Duration::from_micros(500);

//! The one thread that waits for everybody who is slow: requests that arrive in pieces, peers that still send after
//! their answer, handlers that run past their time. No thread of its own is spent on any of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

use crate::blocking::router;
use crate::blocking::server::connection::{ServerConnection, WaitUntil};
use crate::blocking::server::server::ServerContext;
use crate::blocking::transport::wait_for;
use crate::classic::server::{LINGER_BYTES, MIN_REPLY_TIME, Progress};
use crate::limits::permits::Permit;
use crate::net::socket::{self, Read, Socket};
use crate::reply_error::Refusal;
use crate::session::Session;
use crate::telemetry::log::LogClass;

/// The way to the poller's thread.
#[derive(Debug)]
pub(in crate::blocking) struct EventLoop {
    inbox: Mutex<Inbox>,
    bell: Arc<EventLoopWaker>,
    clock: Instant,
    /// When the poller will look at the clock by itself, in microseconds of its own clock.
    planned: AtomicU64,
}

/// What was handed over and is not waited for yet.
#[derive(Debug, Default)]
struct Inbox {
    entries: Vec<Entry>,
    /// Whether nobody will look here any more.
    is_closed: bool,
}

/// Wakes the poller.
#[derive(Debug)]
struct EventLoopWaker {
    event: OwnedFd,
}

impl Wake for EventLoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only when the counter is full, and then the poller is awake.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

/// A connection that is waited for.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most entries are requests; boxing them would cost each a second allocation"
)]
enum Entry {
    /// Its request has not arrived, as far as is known: a server that stops looks once more, and until then the share
    /// keeps it from ending.
    Request(ServerConnection, Option<Permit>),
    /// It has its answer; what it still sends is dropped until it ends.
    Lingering(Lingering),
}

#[derive(Debug)]
struct Lingering {
    socket: Arc<dyn Socket>,
    deadline: Option<Instant>,
    semaphore: usize,
    _place: Option<Permit>,
    _waiting: Permit,
}

impl EventLoop {
    pub(in crate::blocking) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (bell, clock) = (Arc::new(EventLoopWaker { event }), Instant::now());
        Ok(Self { inbox: Mutex::default(), bell, clock, planned: AtomicU64::new(0) })
    }

    /// Makes the poller look again at what it waits for.
    pub(in crate::blocking) fn wake(&self) {
        self.bell.wake_by_ref();
    }

    pub(in crate::blocking) fn waker(&self) -> Waker {
        Waker::from(self.bell.clone())
    }

    /// Makes the poller look at the clock at `time`, if it would not before. What it is to find is stored `SeqCst`, or under
    /// a lock that it takes.
    pub(in crate::blocking) fn wake_by(&self, time: Instant) {
        let time = self.micros(time);
        // Usually it will: then its line of memory is left alone.
        if self.planned.load(Ordering::SeqCst) > time && self.planned.fetch_min(time, Ordering::AcqRel) > time
        {
            self.wake();
        }
    }

    fn micros(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Hands over a connection whose request has not arrived.
    pub(in crate::blocking) fn wait_for_request(
        &self,
        server: &ServerContext,
        connection: ServerConnection,
        arriving: Option<Permit>,
    ) {
        self.enter(server, Entry::Request(connection, arriving));
    }

    /// Hands over a connection that was answered and may still be sending.
    pub(in crate::blocking) fn linger(&self, server: &ServerContext, connection: ServerConnection) {
        if let Some(entry) = Entry::lingering(server, connection) {
            self.enter(server, entry);
        }
    }

    /// Hands over a session that has ended and may still be sending.
    pub(in crate::blocking) fn linger_session(&self, server: &ServerContext, session: Arc<Session>) {
        if let Some(entry) = Entry::lingering_session(server, session) {
            self.enter(server, entry);
        }
    }

    fn enter(&self, server: &ServerContext, entry: Entry) {
        let mut inbox = self.inbox();
        if !inbox.is_closed {
            inbox.entries.push(entry);
            drop(inbox);
            return self.wake();
        }
        drop(inbox);
        // The server has ended while this one was on its way here.
        if let Entry::Request(mut connection, _) = entry {
            connection.refuse(server, &router::stopping());
            connection.write(server, WaitUntil::None);
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work, until the server has ended.
    pub(in crate::blocking) fn run(&self, server: &Arc<ServerContext>) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut scratch = Vec::with_capacity(DISCARD_BUFFER);
        loop {
            entries.append(&mut self.inbox().entries);
            if server.control.is_stopping() {
                entries = entries.into_iter().filter_map(|entry| entry.stop(server)).collect();
                if server.control.has_ended() && entries.is_empty() {
                    let mut inbox = self.inbox();
                    inbox.is_closed = inbox.entries.is_empty();
                    if inbox.is_closed {
                        return;
                    }
                    continue;
                }
            }
            // Before the looks, in one order with what others store before they ask for a look: what these miss is asked for.
            self.planned.store(u64::MAX, Ordering::SeqCst);
            let next_session = server.sessions.look(server, Instant::now());
            let next_call = expire_calls(server);
            let next_thread = server.start_acceptors();
            let next_entry = entries.iter().filter_map(Entry::deadline).min();
            let deadline = [next_session, next_call, next_thread, next_entry].into_iter().flatten().min();
            let planned = deadline.map_or(u64::MAX, |deadline| self.micros(deadline));
            let asked = self.planned.fetch_min(planned, Ordering::AcqRel).min(planned);
            let deadline = (asked < u64::MAX).then(|| self.clock + Duration::from_micros(asked));

            let (sessions, again) = server.sessions.waiting();
            let deadline = [deadline, again].into_iter().flatten().min();
            let mut sockets = Vec::with_capacity(entries.len() + sessions.len() + 1);
            sockets.push(PollFd::new(&self.bell.event, PollFlags::IN));
            sockets
                .extend(entries.iter().map(|entry| PollFd::from_borrowed_fd(entry.socket(), PollFlags::IN)));
            sockets.extend(sessions.iter().map(|(served, flags)| PollFd::new(&*served.session, *flags)));
            if wait_for(&mut sockets, deadline).is_err() {
                // Out of kernel memory; there is nothing to do but to try again.
                std::thread::yield_now();
            }
            let ready: Vec<_> = sockets.iter().map(PollFd::revents).collect();
            if ready.first().is_some_and(|bell| !bell.is_empty()) {
                let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
            }
            let now = Instant::now();
            for ((served, _), ready) in sessions.iter().zip(ready.iter().skip(1 + entries.len())) {
                if !ready.is_empty() {
                    server.sessions.wake(server, served, *ready);
                }
            }
            let turn = entries.into_iter().zip(ready.into_iter().skip(1));
            entries = turn
                .filter_map(|(entry, ready)| {
                    let entry = if !ready.is_empty() { entry.progress(server, &mut scratch)? } else { entry };
                    if entry.deadline().is_some_and(|deadline| deadline <= now) {
                        entry.expire(server)
                    } else {
                        Some(entry)
                    }
                })
                .collect();
        }
    }
}

impl Entry {
    /// A connection that lingers is one that the server waits for, and needs a place among them; without one it is
    /// closed at once.
    fn lingering(server: &ServerContext, mut connection: ServerConnection) -> Option<Self> {
        let waiting = connection.waiting.take();
        let waiting = waiting.or_else(|| server.admission.waiting(&connection.incoming.peer).ok())?;
        let deadline = Instant::now().checked_add(server.admission.config.linger_timeout);
        let (socket, permit) = (Arc::new(connection.stream), Some(connection.permit));
        let semaphore = LINGER_BYTES;
        Some(Self::Lingering(Lingering { socket, deadline, semaphore, _place: permit, _waiting: waiting }))
    }

    /// The same with an earlier end.
    fn until(mut self, end: Instant) -> Self {
        if let Self::Lingering(Lingering { deadline, .. }) = &mut self {
            *deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
        }
        self
    }

    /// The same for a session that has been told why it is over.
    fn lingering_session(server: &ServerContext, session: Arc<Session>) -> Option<Self> {
        let waiting = server.admission.waiting(&session.peer).ok()?;
        let deadline = Instant::now().checked_add(server.admission.config.linger_timeout);
        let semaphore = LINGER_BYTES;
        Some(Self::Lingering(Lingering {
            socket: session,
            deadline,
            semaphore,
            _place: None,
            _waiting: waiting,
        }))
    }

    fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Request(connection, _) => connection.stream.as_fd(),
            Self::Lingering(lingering) => lingering.socket.as_fd(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Request(connection, _) => Some(connection.deadline()),
            Self::Lingering(lingering) => lingering.deadline,
        }
    }

    /// Something has arrived. What is left to wait for afterwards, if anything.
    fn progress(self, server: &Arc<ServerContext>, scratch: &mut Vec<u8>) -> Option<Self> {
        match self {
            Self::Request(mut connection, arriving) => match connection.read(server) {
                Progress::Waiting => Some(Self::Request(connection, arriving)),
                Progress::Over => Self::finish(server, connection),
                Progress::Session => {
                    connection.waiting = None;
                    server.begin_session_on_a_thread(connection);
                    None
                }
                Progress::Request(request) => {
                    connection.waiting = None;
                    server.answer_on_a_thread(connection, request);
                    None
                }
            },
            Self::Lingering(mut lingering) => {
                scratch.clear();
                match Read::of(socket::receive(&lingering.socket, scratch)) {
                    Ok(Read::Bytes(count)) => {
                        server.admission.stats.received(count);
                        lingering.semaphore = lingering.semaphore.checked_sub(count)?;
                    }
                    Ok(Read::Nothing) => {}
                    Ok(Read::End) | Err(_) => return None,
                }
                Some(Self::Lingering(lingering))
            }
        }
    }

    /// The deadline has passed.
    fn expire(self, server: &ServerContext) -> Option<Self> {
        let Self::Request(connection, _) = self else { return None };
        let refused = Self::refuse(server, connection, &router::too_slow())?;
        // It has kept its place long enough.
        Some(refused.until(Instant::now() + MIN_REPLY_TIME))
    }

    /// The server is stopping: what has no request yet will not get one served. The end of the server's time is also the
    /// end of those that linger.
    fn stop(self, server: &Arc<ServerContext>) -> Option<Self> {
        let rest = match self {
            Self::Request(mut connection, _held) => match connection.read(server) {
                Progress::Waiting => Self::refuse(server, connection, &router::stopping()),
                Progress::Over => Self::finish(server, connection),
                Progress::Session => {
                    server.begin_session_on_a_thread(connection);
                    None
                }
                // What has arrived by now is served.
                Progress::Request(request) => {
                    server.answer_on_a_thread(connection, request);
                    None
                }
            },
            lingering @ Self::Lingering(_) => Some(lingering),
        };
        rest.filter(|_| !server.control.has_ended())
    }

    fn refuse(server: &ServerContext, mut connection: ServerConnection, refusal: &Refusal) -> Option<Self> {
        connection.refuse(server, refusal);
        Self::finish(server, connection)
    }

    /// Writes what is queued; a short answer fits the socket's buffer, and a peer that fills it is not waited for.
    fn finish(server: &ServerContext, mut connection: ServerConnection) -> Option<Self> {
        if connection.write(server, WaitUntil::None) { Self::lingering(server, connection) } else { None }
    }
}

/// Answers the calls whose time is over. Tells when the next one's will be.
fn expire_calls(server: &ServerContext) -> Option<Instant> {
    let now = Instant::now();
    for forsaken in
        server.running.abandoned_by_peer(now, server.admission.is_scarce(), &server.control.leaked)
    {
        forsaken.call.cancel();
    }
    let (expired, next) = server.running.expired(now, &server.control.leaked);
    for running in expired {
        let method = running.call.method().unwrap_or_default().to_string();
        server
            .admission
            .log
            .write(LogClass::Timeout, || format!("method {method:?} is past its time limit and still runs"));
        server.answer_without_handler(running, &router::timed_out());
    }
    next
}

impl ServerContext {
    /// Answers a call whose handler is still at work, which from now on works for nobody.
    pub(in crate::blocking) fn answer_without_handler(
        &self,
        running: crate::blocking::server::in_flight::InFlightCall,
        refusal: &Refusal,
    ) {
        let crate::blocking::server::in_flight::InFlightCall { call, mut connection, .. } = running;
        call.cancel();
        connection.incoming.reply(refusal.packet(call.version(), &self.admission.config.limits));
        if connection.write(self, WaitUntil::None) {
            self.poller.linger(self, connection);
        }
    }
}

/// Room for what is read to be dropped.
const DISCARD_BUFFER: usize = 64 * 1024;

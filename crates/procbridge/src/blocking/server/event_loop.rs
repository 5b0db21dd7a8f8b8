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
    budget: usize,
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
        shared: &ServerContext,
        exchange: ServerConnection,
        arriving: Option<Permit>,
    ) {
        self.enter(shared, Entry::Request(exchange, arriving));
    }

    /// Hands over a connection that was answered and may still be sending.
    pub(in crate::blocking) fn linger(&self, shared: &ServerContext, exchange: ServerConnection) {
        if let Some(entry) = Entry::lingering(shared, exchange) {
            self.enter(shared, entry);
        }
    }

    /// Hands over a session that has ended and may still be sending.
    pub(in crate::blocking) fn linger_session(&self, shared: &ServerContext, link: Arc<Session>) {
        if let Some(entry) = Entry::lingering_session(shared, link) {
            self.enter(shared, entry);
        }
    }

    fn enter(&self, shared: &ServerContext, entry: Entry) {
        let mut inbox = self.inbox();
        if !inbox.is_closed {
            inbox.entries.push(entry);
            drop(inbox);
            return self.wake();
        }
        drop(inbox);
        // The server has ended while this one was on its way here.
        if let Entry::Request(mut exchange, _) = entry {
            exchange.refuse(shared, &router::stopping());
            exchange.write(shared, WaitUntil::None);
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work, until the server has ended.
    pub(in crate::blocking) fn run(&self, shared: &Arc<ServerContext>) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut scratch = Vec::with_capacity(DISCARD_BUFFER);
        loop {
            entries.append(&mut self.inbox().entries);
            if shared.control.is_stopping() {
                entries = entries.into_iter().filter_map(|entry| entry.stop(shared)).collect();
                if shared.control.has_ended() && entries.is_empty() {
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
            let next_session = shared.sessions.look(shared, Instant::now());
            let next_call = expire_calls(shared);
            let next_thread = shared.start_acceptors();
            let next_entry = entries.iter().filter_map(Entry::deadline).min();
            let deadline = [next_session, next_call, next_thread, next_entry].into_iter().flatten().min();
            let planned = deadline.map_or(u64::MAX, |deadline| self.micros(deadline));
            let asked = self.planned.fetch_min(planned, Ordering::AcqRel).min(planned);
            let deadline = (asked < u64::MAX).then(|| self.clock + Duration::from_micros(asked));

            let (sessions, again) = shared.sessions.waiting();
            let deadline = [deadline, again].into_iter().flatten().min();
            let mut sockets = Vec::with_capacity(entries.len() + sessions.len() + 1);
            sockets.push(PollFd::new(&self.bell.event, PollFlags::IN));
            sockets
                .extend(entries.iter().map(|entry| PollFd::from_borrowed_fd(entry.socket(), PollFlags::IN)));
            sockets.extend(sessions.iter().map(|(served, flags)| PollFd::new(&*served.link, *flags)));
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
                    shared.sessions.wake(shared, served, *ready);
                }
            }
            let turn = entries.into_iter().zip(ready.into_iter().skip(1));
            entries = turn
                .filter_map(|(entry, ready)| {
                    let entry = if !ready.is_empty() { entry.progress(shared, &mut scratch)? } else { entry };
                    if entry.deadline().is_some_and(|deadline| deadline <= now) {
                        entry.expire(shared)
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
    fn lingering(shared: &ServerContext, mut exchange: ServerConnection) -> Option<Self> {
        let waiting = exchange.waiting.take();
        let waiting = waiting.or_else(|| shared.admission.waiting(&exchange.incoming.peer).ok())?;
        let deadline = Instant::now().checked_add(shared.admission.config.linger_timeout);
        let (socket, place) = (Arc::new(exchange.stream), Some(exchange.place));
        let budget = LINGER_BYTES;
        Some(Self::Lingering(Lingering { socket, deadline, budget, _place: place, _waiting: waiting }))
    }

    /// The same with an earlier end.
    fn until(mut self, end: Instant) -> Self {
        if let Self::Lingering(Lingering { deadline, .. }) = &mut self {
            *deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
        }
        self
    }

    /// The same for a session that has been told why it is over.
    fn lingering_session(shared: &ServerContext, link: Arc<Session>) -> Option<Self> {
        let waiting = shared.admission.waiting(&link.peer).ok()?;
        let deadline = Instant::now().checked_add(shared.admission.config.linger_timeout);
        let budget = LINGER_BYTES;
        Some(Self::Lingering(Lingering { socket: link, deadline, budget, _place: None, _waiting: waiting }))
    }

    fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Request(exchange, _) => exchange.stream.as_fd(),
            Self::Lingering(lingering) => lingering.socket.as_fd(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Request(exchange, _) => Some(exchange.deadline()),
            Self::Lingering(lingering) => lingering.deadline,
        }
    }

    /// Something has arrived. What is left to wait for afterwards, if anything.
    fn progress(self, shared: &Arc<ServerContext>, scratch: &mut Vec<u8>) -> Option<Self> {
        match self {
            Self::Request(mut exchange, arriving) => match exchange.read(shared) {
                Progress::Waiting => Some(Self::Request(exchange, arriving)),
                Progress::Over => Self::finish(shared, exchange),
                Progress::Session => {
                    exchange.waiting = None;
                    shared.begin_session_on_a_thread(exchange);
                    None
                }
                Progress::Request(request) => {
                    exchange.waiting = None;
                    shared.answer_on_a_thread(exchange, request);
                    None
                }
            },
            Self::Lingering(mut lingering) => {
                scratch.clear();
                match Read::of(socket::receive(&lingering.socket, scratch)) {
                    Ok(Read::Bytes(count)) => {
                        shared.admission.stats.received(count);
                        lingering.budget = lingering.budget.checked_sub(count)?;
                    }
                    Ok(Read::Nothing) => {}
                    Ok(Read::End) | Err(_) => return None,
                }
                Some(Self::Lingering(lingering))
            }
        }
    }

    /// The deadline has passed.
    fn expire(self, shared: &ServerContext) -> Option<Self> {
        let Self::Request(exchange, _) = self else { return None };
        let refused = Self::refuse(shared, exchange, &router::too_slow())?;
        // It has kept its place long enough.
        Some(refused.until(Instant::now() + MIN_REPLY_TIME))
    }

    /// The server is stopping: what has no request yet will not get one served. The end of the server's time is also the
    /// end of those that linger.
    fn stop(self, shared: &Arc<ServerContext>) -> Option<Self> {
        let rest = match self {
            Self::Request(mut exchange, _held) => match exchange.read(shared) {
                Progress::Waiting => Self::refuse(shared, exchange, &router::stopping()),
                Progress::Over => Self::finish(shared, exchange),
                Progress::Session => {
                    shared.begin_session_on_a_thread(exchange);
                    None
                }
                // What has arrived by now is served.
                Progress::Request(request) => {
                    shared.answer_on_a_thread(exchange, request);
                    None
                }
            },
            lingering @ Self::Lingering(_) => Some(lingering),
        };
        rest.filter(|_| !shared.control.has_ended())
    }

    fn refuse(shared: &ServerContext, mut exchange: ServerConnection, refusal: &Refusal) -> Option<Self> {
        exchange.refuse(shared, refusal);
        Self::finish(shared, exchange)
    }

    /// Writes what is queued; a short answer fits the socket's buffer, and a peer that fills it is not waited for.
    fn finish(shared: &ServerContext, mut exchange: ServerConnection) -> Option<Self> {
        if exchange.write(shared, WaitUntil::None) { Self::lingering(shared, exchange) } else { None }
    }
}

/// Answers the calls whose time is over. Tells when the next one's will be.
fn expire_calls(shared: &ServerContext) -> Option<Instant> {
    let now = Instant::now();
    for forsaken in
        shared.running.abandoned_by_peer(now, shared.admission.is_scarce(), &shared.control.leaked)
    {
        forsaken.call.cancel();
    }
    let (expired, next) = shared.running.expired(now, &shared.control.leaked);
    for running in expired {
        let method = running.call.method().unwrap_or_default().to_string();
        shared
            .admission
            .journal
            .write(LogClass::Timeout, || format!("method {method:?} is past its time limit and still runs"));
        shared.answer_without_handler(running, &router::timed_out());
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
        let crate::blocking::server::in_flight::InFlightCall { call, mut exchange, .. } = running;
        call.cancel();
        exchange.incoming.reply(refusal.packet(call.version(), &self.admission.config.limits));
        if exchange.write(self, WaitUntil::None) {
            self.poller.linger(self, exchange);
        }
    }
}

/// Room for what is read to be dropped.
const DISCARD_BUFFER: usize = 64 * 1024;

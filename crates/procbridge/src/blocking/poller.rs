//! The one thread that waits for everybody who is slow: requests that arrive in pieces, peers that still send after
//! their answer, handlers that run past their time. No thread of its own is spent on any of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags};

use crate::blocking::exchange::{Exchange, Patience};
use crate::blocking::server::Shared;
use crate::blocking::stream::{Stream, wait_for};
use crate::budget::Share;
use crate::incoming::{LINGER_BYTES, Progress};
use crate::journal::Matter;
use crate::refusal::Refusal;
use crate::router;
use crate::socket::Read;

/// The way to the poller's thread.
#[derive(Debug)]
pub(super) struct Poller {
    inbox: Mutex<Vec<Entry>>,
    wake: OwnedFd,
}

/// A connection that is waited for.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "most entries are requests; boxing them would cost each a second allocation"
)]
enum Entry {
    /// Its request has not arrived.
    Request(Exchange),
    /// It has its answer; what it still sends is dropped until it ends.
    Lingering(Lingering),
}

#[derive(Debug)]
struct Lingering {
    stream: Stream,
    deadline: Option<Instant>,
    budget: usize,
    _place: Share,
    _waiting: Share,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inbox: Mutex::default(), wake })
    }

    /// Makes the poller look again at what it waits for.
    pub(super) fn wake(&self) {
        // It fails only when the counter is full, and then the poller is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Hands over a connection whose request has not arrived.
    pub(super) fn wait_for_request(&self, exchange: Exchange) {
        self.enter(Entry::Request(exchange));
    }

    /// Hands over a connection that was answered and may still be sending.
    pub(super) fn linger(&self, shared: &Shared, exchange: Exchange) {
        if let Some(entry) = Entry::lingering(shared, exchange) {
            self.enter(entry);
        }
    }

    fn enter(&self, entry: Entry) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.wake();
    }

    /// The thread's work, until the server has ended.
    pub(super) fn run(&self, shared: &Arc<Shared>) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut scratch = Vec::with_capacity(SCRATCH);
        loop {
            entries.append(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
            if shared.control.is_stopping() {
                entries = entries.into_iter().filter_map(|entry| entry.stop(shared)).collect();
                if shared.control.has_ended() && entries.is_empty() {
                    return;
                }
            }
            let next_call = expire_calls(shared);
            let next_entry = entries.iter().filter_map(Entry::deadline).min();
            let deadline = [next_call, next_entry].into_iter().flatten().min();

            let mut sockets = Vec::with_capacity(entries.len() + 1);
            sockets.push(PollFd::new(&self.wake, PollFlags::IN));
            sockets.extend(
                entries.iter().map(|entry| PollFd::from_borrowed_fd(entry.stream().as_fd(), PollFlags::IN)),
            );
            if wait_for(&mut sockets, deadline).is_err() {
                // Out of kernel memory; there is nothing to do but to try again.
                std::thread::yield_now();
            }
            let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
            if ready.first() == Some(&true) {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            }
            let now = Instant::now();
            let turn = entries.into_iter().zip(ready.into_iter().skip(1));
            entries = turn
                .filter_map(|(entry, ready)| {
                    let entry = if ready { entry.progress(shared, &mut scratch)? } else { entry };
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
    fn lingering(shared: &Shared, mut exchange: Exchange) -> Option<Self> {
        let waiting = exchange.waiting.take().or_else(|| shared.admission.waiting().ok())?;
        let deadline = Instant::now().checked_add(shared.admission.config.linger_timeout);
        let (stream, place) = (exchange.stream, exchange.place);
        Some(Self::Lingering(Lingering {
            stream,
            deadline,
            budget: LINGER_BYTES,
            _place: place,
            _waiting: waiting,
        }))
    }

    fn stream(&self) -> &Stream {
        match self {
            Self::Request(exchange) => &exchange.stream,
            Self::Lingering(lingering) => &lingering.stream,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Request(exchange) => Some(exchange.deadline()),
            Self::Lingering(lingering) => lingering.deadline,
        }
    }

    /// Something has arrived. What is left to wait for afterwards, if anything.
    fn progress(self, shared: &Arc<Shared>, scratch: &mut Vec<u8>) -> Option<Self> {
        match self {
            Self::Request(mut exchange) => match exchange.read(shared) {
                Progress::Waiting => Some(Self::Request(exchange)),
                Progress::Over => Self::finish(shared, exchange),
                Progress::Request(request) => {
                    exchange.waiting = None;
                    shared.answer_on_a_thread(exchange, request);
                    None
                }
            },
            Self::Lingering(mut lingering) => {
                scratch.clear();
                match lingering.stream.read(scratch) {
                    Ok(Read::Bytes(count)) => lingering.budget = lingering.budget.checked_sub(count)?,
                    Ok(Read::Nothing) => {}
                    Ok(Read::End) | Err(_) => return None,
                }
                Some(Self::Lingering(lingering))
            }
        }
    }

    /// The deadline has passed.
    fn expire(self, shared: &Shared) -> Option<Self> {
        let Self::Request(exchange) = self else { return None };
        Self::refuse(shared, exchange, &router::too_slow())
    }

    /// The server is stopping: what has no request yet will not get one served. The end of the server's time is also the
    /// end of those that linger.
    fn stop(self, shared: &Arc<Shared>) -> Option<Self> {
        let rest = match self {
            Self::Request(mut exchange) => match exchange.read(shared) {
                Progress::Waiting => Self::refuse(shared, exchange, &router::stopping()),
                Progress::Over => Self::finish(shared, exchange),
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

    fn refuse(shared: &Shared, mut exchange: Exchange, refusal: &Refusal) -> Option<Self> {
        exchange.refuse(shared, refusal);
        Self::finish(shared, exchange)
    }

    /// Writes what is queued; a short answer fits the socket's buffer, and a peer that fills it is not waited for.
    fn finish(shared: &Shared, mut exchange: Exchange) -> Option<Self> {
        if exchange.write(shared, Patience::None) { Self::lingering(shared, exchange) } else { None }
    }
}

/// Answers the calls whose time is over. Tells when the next one's will be.
fn expire_calls(shared: &Shared) -> Option<Instant> {
    let (expired, next) = shared.running.expired(Instant::now(), &shared.control.leaked);
    for running in expired {
        let method = running.call.method().unwrap_or_default().to_string();
        shared
            .admission
            .journal
            .write(Matter::Timeout, || format!("method {method:?} is past its time limit and still runs"));
        shared.answer_without_handler(running, &router::timed_out());
    }
    next
}

impl Shared {
    /// Answers a call whose handler is still at work, which from now on works for nobody.
    pub(super) fn answer_without_handler(
        &self,
        running: crate::blocking::running::RunningCall,
        refusal: &Refusal,
    ) {
        let crate::blocking::running::RunningCall { call, mut exchange } = running;
        call.cancel();
        exchange.incoming.reply(refusal.packet(call.version(), &self.admission.config.limits));
        if exchange.write(self, Patience::None) {
            self.poller.linger(self, exchange);
        }
    }
}

/// Room for what is read to be dropped.
const SCRATCH: usize = 64 * 1024;

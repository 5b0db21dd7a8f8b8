//! The thread of the event loop: serves each entry when it is ready or its deadline passes.

use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::blocking::server::connection::WaitUntil;
use crate::blocking::server::context::ServerContext;
use crate::blocking::server::event_loop::Entry;
use crate::blocking::server::in_flight::InFlightCall;
use crate::blocking::transport::wait_for;
use crate::classic::server::{MIN_REPLY_TIME, Progress};
use crate::net::socket::{self, Read};
use crate::reply_error::{self, ReplyError};
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Runs the event loop until the server has ended.
    pub(in crate::blocking) fn run_event_loop(self: &Arc<Self>) {
        let (server, event_loop) = (self, &self.event_loop);
        let mut entries: Vec<Entry> = Vec::new();
        let mut scratch = Vec::with_capacity(DISCARD_BUFFER);
        loop {
            event_loop.take_entries(&mut entries);
            if server.shutdown.is_stopping() {
                entries = entries.into_iter().filter_map(|entry| entry.stop(server)).collect();
                if server.shutdown.has_ended() && entries.is_empty() {
                    if event_loop.close() {
                        return;
                    }
                    continue;
                }
            }
            event_loop.begin_check();
            let next_session = server.check_sessions(Instant::now());
            let next_call = expire_calls(server);
            let next_thread = server.start_acceptors();
            let next_entry = entries.iter().filter_map(Entry::deadline).min();
            let deadline = [next_session, next_call, next_thread, next_entry].into_iter().flatten().min();
            let deadline = event_loop.plan(deadline);

            let (sessions, again) = server.sessions.waiting();
            let deadline = [deadline, again].into_iter().flatten().min();
            let mut sockets = Vec::with_capacity(entries.len() + sessions.len() + 1);
            sockets.push(PollFd::new(event_loop.event(), PollFlags::IN));
            sockets
                .extend(entries.iter().map(|entry| PollFd::from_borrowed_fd(entry.socket(), PollFlags::IN)));
            sockets.extend(sessions.iter().map(|(served, flags)| PollFd::new(&*served.session, *flags)));
            if wait_for(&mut sockets, deadline).is_err() {
                // The kernel is out of memory; the only remedy is to retry.
                std::thread::yield_now();
            }
            let ready: Vec<_> = sockets.iter().map(PollFd::revents).collect();
            if ready.first().is_some_and(|woken| !woken.is_empty()) {
                event_loop.reset_event();
            }
            let now = Instant::now();
            for ((served, _), ready) in sessions.iter().zip(ready.iter().skip(1 + entries.len())) {
                if !ready.is_empty() {
                    server.wake_session(served, *ready);
                }
            }
            let polled = entries.into_iter().zip(ready.into_iter().skip(1));
            entries = polled
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
    /// Handles input. Returns the entry if there is more to wait for.
    fn progress(self, server: &Arc<ServerContext>, scratch: &mut Vec<u8>) -> Option<Self> {
        match self {
            Self::Request(mut connection, arriving) => match connection.read(&server.admission) {
                Progress::Waiting => Some(Self::Request(connection, arriving)),
                Progress::Over => Entry::finish(&server.admission, connection),
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
                        lingering.bytes_left = lingering.bytes_left.checked_sub(count)?;
                    }
                    Ok(Read::Nothing) => {}
                    Ok(Read::End) | Err(_) => return None,
                }
                Some(Self::Lingering(lingering))
            }
        }
    }

    /// Handles a passed deadline.
    fn expire(self, server: &ServerContext) -> Option<Self> {
        let Self::Request(connection, _) = self else { return None };
        let refused = Entry::refuse(&server.admission, connection, &reply_error::too_slow())?;
        // It has used its permit long enough.
        Some(refused.until(Instant::now() + MIN_REPLY_TIME))
    }

    /// Handles the server's stop: a request that has not arrived is refused. Lingering connections end with the
    /// server's drain timeout.
    fn stop(self, server: &Arc<ServerContext>) -> Option<Self> {
        let rest = match self {
            Self::Request(mut connection, _arriving) => match connection.read(&server.admission) {
                Progress::Waiting => Entry::refuse(&server.admission, connection, &reply_error::stopping()),
                Progress::Over => Entry::finish(&server.admission, connection),
                Progress::Session => {
                    server.begin_session_on_a_thread(connection);
                    None
                }
                // A request that has arrived by now is served.
                Progress::Request(request) => {
                    server.answer_on_a_thread(connection, request);
                    None
                }
            },
            lingering @ Self::Lingering(_) => Some(lingering),
        };
        rest.filter(|_| !server.shutdown.has_ended())
    }
}

/// Answers the calls whose deadline has passed. Returns the next deadline.
fn expire_calls(server: &ServerContext) -> Option<Instant> {
    let now = Instant::now();
    for abandoned in
        server.in_flight.abandoned_by_peer(now, server.admission.is_scarce(), &server.shutdown.leaked)
    {
        abandoned.call.state().cancel();
    }
    let (expired, next) = server.in_flight.expired(now, &server.shutdown.leaked);
    for entry in expired {
        let method = entry.call.method().unwrap_or_default().to_string();
        server
            .admission
            .log
            .write(LogClass::Timeout, || format!("method {method:?} is past its deadline and still runs"));
        server.answer_without_handler(entry, &reply_error::timed_out());
    }
    next
}

impl ServerContext {
    /// Answers a call whose handler still runs; the handler is leaked from now on.
    pub(in crate::blocking) fn answer_without_handler(&self, entry: InFlightCall, refusal: &ReplyError) {
        let InFlightCall { call, mut connection, .. } = entry;
        call.state().cancel();
        connection.incoming.reply(refusal.packet(call.version(), &self.admission.config.limits));
        if connection.write(&self.admission, WaitUntil::None) {
            self.event_loop.linger(&self.admission, connection);
        }
    }
}

/// The size of the buffer for discarded input.
const DISCARD_BUFFER: usize = 64 * 1024;

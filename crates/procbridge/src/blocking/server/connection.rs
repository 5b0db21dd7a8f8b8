//! The server's side of one connection: reads a request, writes the answer, and closes without losing it.

use std::mem;
use std::time::{Duration, Instant};

use crate::blocking::transport::{Readiness, Transport};
use crate::classic::server::{ClassicServer, Progress};
use crate::limits::admission::Admission;
use crate::limits::permits::Permit;
use crate::peer::Peer;
use crate::reply_error::ReplyError;
use crate::telemetry::log::LogClass;

/// An accepted connection, with its permits.
#[derive(Debug)]
pub(in crate::blocking) struct ServerConnection {
    pub(in crate::blocking) stream: Transport,
    pub(in crate::blocking) incoming: ClassicServer,
    pub(in crate::blocking) permit: Permit,
    pub(in crate::blocking) waiting: Option<Permit>,
}

impl ServerConnection {
    pub(in crate::blocking) fn new(
        admission: &Admission,
        stream: Transport,
        peer: Peer,
        permit: Permit,
        bytes: Permit,
        is_stopping: bool,
    ) -> Self {
        // A stopping server accepts no sessions: it would have to end them at once.
        let settings = admission.config.session_settings.clone().filter(|_| !is_stopping);
        let incoming = ClassicServer::new(admission, peer, bytes, settings);
        Self { stream, incoming, permit, waiting: None }
    }

    /// Returns the deadline by which the request must have arrived.
    pub(in crate::blocking) fn deadline(&self) -> Instant {
        self.incoming.deadline()
    }

    /// Reads what has arrived of the request, without waiting.
    pub(in crate::blocking) fn read(&mut self, admission: &Admission) -> Progress {
        let stream = &self.stream;
        self.incoming.read(admission, |buffer| stream.read(buffer))
    }

    /// Reads the request, waiting briefly for each part of it.
    pub(in crate::blocking) fn read_soon(&mut self, admission: &Admission) -> Progress {
        let stream = &self.stream;
        let (mut is_first, mut end) = (true, None);
        self.incoming.read(admission, |buffer| {
            // Most requests arrive in one read, which needs no clock reading.
            if mem::take(&mut is_first) {
                return stream.read_soon(buffer);
            }
            let now = Instant::now();
            if now < *end.get_or_insert(now + INLINE_ACCEPT_TIME) {
                stream.read_soon(buffer)
            } else {
                stream.read(buffer)
            }
        })
    }

    /// Queues an answer to a request that the server no longer waits for.
    pub(in crate::blocking) fn refuse(&mut self, admission: &Admission, refusal: &ReplyError) {
        self.incoming.refuse(admission, refusal);
    }

    /// Writes what is queued. Waits for the peer as long as it takes some of it; with `WaitUntil::None` it does not
    /// wait. Returns whether the connection must linger.
    pub(in crate::blocking) fn write(&mut self, admission: &Admission, wait_until: WaitUntil) -> bool {
        let Self { stream, incoming, .. } = self;
        let log = &admission.log;
        while !incoming.transmit().is_empty() {
            match stream.write(incoming.transmit()) {
                Ok(0) if wait_until == WaitUntil::None => return false,
                Ok(0) => {
                    let deadline = Instant::now().checked_add(admission.config.write_timeout);
                    if !stream.wait(Readiness::Write, deadline).unwrap_or(false) {
                        log.write(LogClass::Write, || {
                            format!("{}: stopped reading its answer", incoming.peer)
                        });
                        return false;
                    }
                }
                Ok(count) => incoming.transmitted(admission, count),
                Err(error) => {
                    log.write(LogClass::Write, || format!("{}: {error}", incoming.peer));
                    return false;
                }
            }
        }
        incoming.must_linger() && stream.finish_writing().is_ok()
    }
}

/// Whether a write may wait for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::blocking) enum WaitUntil {
    WriteTimeout,
    None,
}

/// How long the accepting thread reads a request that keeps arriving, or waits for one that finds no permit with the
/// event loop. So clients that send at once are served, however many others stay silent.
pub(in crate::blocking) const INLINE_ACCEPT_TIME: Duration = Duration::from_millis(20);

//! The server's side of one classic connection, without its socket: what arrives becomes a request, and the outcome
//! becomes an answer (PB-CON-*, PB-ERR-*). Both faces share it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Connection, Ending, Event, Packet, Request, Settings};

use crate::limits::admission::Admission;
use crate::limits::permits::{Account, Permit};
use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket::Read;
use crate::peer::Peer;
use crate::reply_error::{self, ReplyError};
use crate::telemetry::log::LogClass;

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct ClassicServer {
    pub(crate) peer: Peer,
    connection: Connection,
    rate: ReceiveRate,
    id: Option<CallId>,
    bytes: Permit,
}

/// How far a request has arrived.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More of the request must arrive.
    Waiting,
    /// The request has arrived.
    Request(Request),
    /// The request has arrived, and is the first on a session that the connection has become.
    Session,
    /// There will be no request; an answer to what was wrong may be queued.
    Over,
}

/// Bytes that a peer may still send after its answer (PB-CON-13).
pub(crate) const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// Linger timeout of a peer whose request did not arrive in time.
pub(crate) const MIN_REPLY_TIME: Duration = Duration::from_millis(250);

impl ClassicServer {
    /// Begins a connection. `bytes` is the permit for its requests; `settings` are those of a session that it may
    /// become.
    pub(crate) fn new(
        admission: &Admission,
        peer: Peer,
        bytes: Permit,
        settings: Option<Arc<Settings>>,
    ) -> Self {
        let connection = Connection::server(admission.config.limits);
        let connection = match settings {
            Some(settings) => connection.with_session(settings),
            None => connection,
        };
        let rate = ReceiveRate::new(
            admission.now(),
            admission.config.header_timeout,
            admission.config.min_body_rate,
        );
        Self { peer, connection, rate, id: None, bytes }
    }

    /// Returns the account of the connection in the server's limits.
    pub(crate) fn account(&self) -> Arc<Account> {
        self.bytes.account().cloned().unwrap_or_default()
    }

    /// Returns when the request is too slow.
    pub(crate) fn deadline(&self) -> Instant {
        self.rate.deadline()
    }

    /// Takes in what has arrived of the request; `read` appends it to a buffer without waiting.
    pub(crate) fn read(
        &mut self,
        admission: &Admission,
        mut read: impl FnMut(&mut Vec<u8>) -> io::Result<Read>,
    ) -> Progress {
        loop {
            let buffer = self.connection.read_buffer();
            match read(buffer) {
                Ok(Read::Bytes(count)) => {
                    admission.stats.received(count);
                    self.connection.received();
                    self.rate.arrived(admission.now(), count, self.connection.has_header());
                }
                Ok(Read::End) => self.connection.receive_end(),
                Ok(Read::Nothing) => {
                    // A connection that has sent nothing keeps no buffer.
                    if buffer.is_empty() {
                        *buffer = Vec::new();
                    }
                    return Progress::Waiting;
                }
                Err(_) => return Progress::Over,
            }
            match self.connection.poll_event() {
                Some(Event::Request { id, request }) => {
                    self.id = Some(id);
                    return Progress::Request(request);
                }
                Some(Event::Session) => return Progress::Session,
                Some(Event::Closed { error }) => {
                    if let Some(error) = error {
                        admission.log.write(LogClass::Protocol, || format!("{}: {error}", self.peer));
                    }
                    return Progress::Over;
                }
                _ if !self.bytes.resize(self.connection.held_bytes()) => {
                    let limit = admission.config.max_buffered_bytes;
                    self.refuse(
                        admission,
                        &reply_error::overloaded("bytes of unanswered requests", limit, "max_buffered_bytes"),
                    );
                    return Progress::Over;
                }
                _ => {}
            }
        }
    }

    /// Returns the session that the connection has become, and the permit for the bytes of its requests.
    pub(crate) fn into_session(self) -> (Connection, Permit) {
        (self.connection, self.bytes)
    }

    /// Queues a refusal in place of the request's answer.
    pub(crate) fn refuse(&mut self, admission: &Admission, refusal: &ReplyError) {
        admission.log.write(LogClass::Refused, || format!("{}: {}", self.peer, refusal.message()));
        self.connection.refuse(refusal.packet(self.connection.version(), &admission.config.limits));
    }

    /// Takes the space that a large answer needs until the peer has read it. Without space, returns a refusal as the
    /// answer.
    pub(crate) fn take_space(&self, admission: &Admission, packet: Packet) -> (Packet, Option<Permit>) {
        match admission.answer(&self.account(), packet.json_len()) {
            Ok(space) => (packet, space),
            Err(refusal) => (refusal.packet(self.connection.version(), &admission.config.limits), None),
        }
    }

    /// Queues the answer.
    pub(crate) fn reply(&mut self, packet: Packet) {
        if let Some(id) = self.id.take() {
            let replied = self.connection.reply(id, packet);
            debug_assert!(replied.is_ok(), "a request is answered once, in its own version");
        }
    }

    /// Returns the bytes to write; empty if there are none.
    pub(crate) fn transmit(&self) -> &[u8] {
        self.connection.transmit()
    }

    pub(crate) fn transmitted(&mut self, admission: &Admission, count: usize) {
        admission.stats.sent(count);
        self.connection.transmitted(count);
    }

    /// Whether the peer may still be sending, so that closing now would destroy the answer on its way.
    pub(crate) fn must_linger(&self) -> bool {
        self.connection.ending() == Ending::Linger && self.connection.has_transmitted()
    }
}

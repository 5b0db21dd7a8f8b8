//! The server's side of one connection without its socket: what arrives becomes a request, and what is decided about
//! it becomes an answer (PB-CON-*, PB-ERR-*). The same for both faces.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Connection, Ending, Event, Packet, Request, Settings};

use crate::limits::admission::Admission;
use crate::limits::permits::{Account, Permit};
use crate::limits::receive_rate::ReceiveRate;
use crate::net::socket::Read;
use crate::peer::Peer;
use crate::reply_error::{self, Refusal};
use crate::telemetry::log::LogClass;

/// One request and the answer to it.
#[derive(Debug)]
pub(crate) struct ClassicServer {
    pub(crate) peer: Peer,
    connection: Connection,
    pace: ReceiveRate,
    id: Option<CallId>,
    held: Permit,
}

/// How far a request has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More of it must arrive.
    Waiting,
    /// It is there.
    Request(Request),
    /// It is there, and the connection has become a session on which it is the first.
    Session,
    /// There will be none; an answer to what was wrong may be queued.
    Over,
}

/// What a peer may still send after its answer (PB-CON-13).
pub(crate) const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// How long a peer lingers whose request did not arrive in time: it has had its time.
pub(crate) const MIN_REPLY_TIME: Duration = Duration::from_millis(250);

impl ClassicServer {
    /// `terms` are those of a session that the connection may become.
    pub(crate) fn new(admission: &Admission, peer: Peer, held: Permit, terms: Option<Arc<Settings>>) -> Self {
        let connection = Connection::server(admission.config.limits);
        let connection = match terms {
            Some(terms) => connection.with_session(terms),
            None => connection,
        };
        let pace =
            ReceiveRate::new(admission.now(), admission.config.header_timeout, admission.config.min_rate);
        Self { peer, connection, pace, id: None, held }
    }

    /// Returns the holder of what the connection takes of the server's budgets.
    pub(crate) fn account(&self) -> Arc<Account> {
        self.held.account().cloned().unwrap_or_default()
    }

    /// When the request is too slow.
    pub(crate) fn deadline(&self) -> Instant {
        self.pace.deadline()
    }

    /// Takes in what has arrived of the request, as `read` appends it to a buffer without waiting.
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
                    self.pace.arrived(admission.now(), count, self.connection.has_header());
                }
                Ok(Read::End) => self.connection.receive_end(),
                Ok(Read::Nothing) => {
                    // A connection that has sent nothing holds no buffer.
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
                _ if !self.held.resize(self.connection.held_bytes()) => {
                    let limit = admission.config.max_unfinished;
                    self.refuse(
                        admission,
                        &reply_error::overloaded("bytes of unanswered requests", limit, "max_unfinished"),
                    );
                    return Progress::Over;
                }
                _ => {}
            }
        }
    }

    /// What the connection has become, and its share of the bytes that are held.
    pub(crate) fn into_session(self) -> (Connection, Permit) {
        (self.connection, self.held)
    }

    /// Queues an answer to a request that is not waited for any longer.
    pub(crate) fn refuse(&mut self, admission: &Admission, refusal: &Refusal) {
        admission.log.write(LogClass::Refused, || format!("{}: {}", self.peer, refusal.message()));
        self.connection.refuse(refusal.packet(self.connection.version(), &admission.config.limits));
    }

    /// Takes the space that a large answer needs until the peer has taken it. Where there is none, another one is told so.
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
            debug_assert!(replied.is_ok(), "an exchange is answered once, in the version of its request");
        }
    }

    /// What is to be written, empty if there is nothing.
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

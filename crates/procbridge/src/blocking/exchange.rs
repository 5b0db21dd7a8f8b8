//! The server's side of one connection: a request is read, an answer is written, and the connection ends well.

use std::time::Instant;

use procbridge_proto::{CallId, Connection, Ending, Event, Packet, Request};

use crate::blocking::server::Shared;
use crate::blocking::stream::{Read, Readiness, Stream};
use crate::budget::Share;
use crate::journal::Matter;
use crate::pace::Pace;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::router;

/// One accepted connection and what it holds of the server's limits.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    connection: Connection,
    pace: Pace,
    id: Option<CallId>,
    held: Share,
    pub(super) place: Share,
    pub(super) waiting: Option<Share>,
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Progress {
    /// More of it must arrive.
    Waiting,
    /// It is there.
    Request(Request),
    /// There will be none; an answer to what was wrong may be queued.
    Over,
}

impl Exchange {
    pub(super) fn new(shared: &Shared, stream: Stream, peer: Peer, place: Share, held: Share) -> Self {
        let connection = Connection::server(shared.config.limits);
        let pace = Pace::new(Instant::now(), shared.config.header_timeout);
        Self { stream, peer, connection, pace, id: None, held, place, waiting: None }
    }

    /// When the request is too slow.
    pub(super) fn deadline(&self) -> Instant {
        self.pace.deadline()
    }

    /// Reads what has arrived of the request, without waiting.
    pub(super) fn read(&mut self, shared: &Shared) -> Progress {
        loop {
            match self.stream.read(self.connection.read_buffer()) {
                Ok(Read::Bytes(count)) => {
                    self.connection.received();
                    self.pace.arrived(Instant::now(), count, self.connection.has_header());
                }
                Ok(Read::End) => self.connection.receive_end(),
                Ok(Read::Nothing) => return Progress::Waiting,
                Err(_) => return Progress::Over,
            }
            match self.connection.poll_event() {
                Some(Event::Request { id, request }) => {
                    self.id = Some(id);
                    return Progress::Request(request);
                }
                Some(Event::Closed { error }) => {
                    if let Some(error) = error {
                        shared.journal.write(Matter::Protocol, || format!("{}: {error}", self.peer));
                    }
                    return Progress::Over;
                }
                _ if !self.held.resize(self.connection.held()) => {
                    let limit = shared.config.max_unfinished;
                    self.refuse(
                        shared,
                        &router::overloaded("bytes of unanswered requests", limit, "max_unfinished"),
                    );
                    return Progress::Over;
                }
                _ => {}
            }
        }
    }

    /// Queues an answer to a request that is not waited for any longer.
    pub(super) fn refuse(&mut self, shared: &Shared, refusal: &Refusal) {
        shared.journal.write(Matter::Refused, || format!("{}: {}", self.peer, refusal.message()));
        self.connection.refuse(refusal.packet(self.connection.version(), &shared.config.limits));
    }

    /// Queues the answer.
    pub(super) fn reply(&mut self, packet: Packet) {
        if let Some(id) = self.id.take() {
            let replied = self.connection.reply(id, packet);
            debug_assert!(replied.is_ok(), "an exchange is answered once, in the version of its request");
        }
    }

    /// Writes what is queued. It waits for the peer as long as the peer takes something; with `Patience::None` it does
    /// not wait. Tells whether the connection must linger.
    pub(super) fn write(&mut self, shared: &Shared, patience: Patience) -> bool {
        while !self.connection.transmit().is_empty() {
            match self.stream.write(self.connection.transmit()) {
                Ok(0) if patience == Patience::None => return false,
                Ok(0) => {
                    let deadline = Instant::now() + shared.config.write_timeout;
                    if !self.stream.wait(Readiness::Write, Some(deadline)).unwrap_or(false) {
                        shared
                            .journal
                            .write(Matter::Write, || format!("{}: takes no more of its answer", self.peer));
                        return false;
                    }
                }
                Ok(count) => self.connection.transmitted(count),
                Err(error) => {
                    shared.journal.write(Matter::Write, || format!("{}: {error}", self.peer));
                    return false;
                }
            }
        }
        self.connection.ending() == Ending::Linger
            && self.connection.has_transmitted()
            && self.stream.finish_writing().is_ok()
    }
}

/// Whether a write may wait for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    WriteTimeout,
    None,
}

//! Who and what is let in: a server's limits, what has been taken of them, and the refusals of the rest. The same for
//! both faces.

use std::os::fd::AsFd;

use procbridge_proto::Version;

use crate::budget::{Budget, Share};
use crate::config::ServerConfig;
use crate::journal::{Journal, Matter};
use crate::listener::Peers;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::router::{denied, overloaded};
use crate::socket;

/// The limits of a server and what is used of them.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) config: ServerConfig,
    pub(crate) journal: Journal,
    connections: Budget,
    waiting: Budget,
    calls: Budget,
    held: Budget,
}

impl Admission {
    /// `connections` holds where the settings do not say how many there may be.
    pub(crate) fn new(config: ServerConfig, connections: usize) -> Self {
        let connections = config.max_connections.unwrap_or(connections);
        Self {
            connections: Budget::new(connections),
            waiting: Budget::new(config.max_waiting),
            calls: Budget::new(config.max_calls.min(connections)),
            held: Budget::new(config.max_unfinished),
            journal: Journal::new(),
            config,
        }
    }

    /// A connection's place, and its share of the bytes that are held for requests.
    pub(crate) fn connection(&self) -> Result<(Share, Share), Refusal> {
        let limit = self.connections.limit();
        let place = self.connections.take(1);
        place.zip(self.held.take(0)).ok_or_else(|| overloaded("connections", limit, "max_connections"))
    }

    /// The place of a connection whose request has not arrived yet.
    pub(crate) fn waiting(&self) -> Result<Share, Refusal> {
        self.waiting.take(1).ok_or_else(|| self.full())
    }

    /// The answer to a connection that does not get such a place.
    pub(crate) fn full(&self) -> Refusal {
        overloaded("connections without a request", self.waiting.limit(), "max_waiting")
    }

    /// A call's place with the handlers.
    pub(crate) fn call(&self) -> Result<Share, Refusal> {
        let limit = self.calls.limit();
        self.calls.take(1).ok_or_else(|| overloaded("calls in flight", limit, "max_calls"))
    }

    /// How many calls have such a place.
    pub(crate) fn calls(&self) -> usize {
        self.calls.used()
    }

    /// Whether `peer` may connect at all, where `peers` may.
    pub(crate) fn check(&self, peers: Peers, peer: &Peer) -> Result<(), Refusal> {
        match peers {
            Peers::SameUser if !peer.is_same_user_or_root() => Err(denied()),
            _ => Ok(()),
        }
    }

    /// Tells a connection beyond the limit that it is one. It holds nothing of the server, so it is not waited for.
    pub(crate) fn turn_away(&self, socket: impl AsFd, peer: &Peer, refusal: &Refusal) {
        self.journal.write(Matter::Refused, || format!("{peer}: {}", refusal.message()));
        // What it has sent is taken, or closing would reset the connection and destroy the answer.
        let _ = socket::receive(&socket, &mut Vec::with_capacity(TURNED_AWAY));
        let packet = refusal.packet(Version::V1_1, &self.config.limits);
        let _ = socket::send(&socket, packet.bytes());
        let _ = socket::finish_writing(&socket);
    }
}

const TURNED_AWAY: usize = 16 * 1024;

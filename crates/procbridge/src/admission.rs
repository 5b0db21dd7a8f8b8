//! Who and what is let in: a server's limits, what has been taken of them, and the refusals of the rest. The same for
//! both faces.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use procbridge_proto::{Terms, Version};

use crate::budget::{Budget, Share};
use crate::client_config::ClientConfig;
use crate::config::ServerConfig;
use crate::journal::{Journal, Matter};
use crate::listener::Peers;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::router::{denied, overloaded};
use crate::socket;
use crate::stats::Stats;

/// The limits of a server and what is used of them.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) config: ServerConfig,
    pub(crate) journal: Journal,
    /// Whether these are a client's limits, for the calls that its server makes.
    pub(crate) is_client: bool,
    /// What time it is. The async face goes by the clock of its runtime, which a test may stop.
    pub(crate) clock: fn() -> Instant,
    /// Handlers at work for nobody.
    pub(crate) leaked: Arc<AtomicUsize>,
    pub(crate) stats: Stats,
    waiting: Budget,
    calls: Budget,
    held: Budget,
}

impl Admission {
    /// `connections` holds where the settings do not say how many there may be. `methods` are those that will be called.
    pub(crate) fn new(mut config: ServerConfig, connections: usize, methods: &[&str]) -> Self {
        let name = config.program_name();
        let named = |terms: Arc<Terms>| Arc::new(Arc::unwrap_or_clone(terms).with_name(&name));
        config.terms = config.terms.take().map(named);
        let connections = config.max_connections.unwrap_or(connections);
        Self {
            stats: Stats::new(connections, methods.iter().copied()),
            waiting: Budget::new(config.max_waiting),
            calls: Budget::new(config.max_calls),
            held: Budget::new(config.max_unfinished),
            journal: Journal::new(),
            is_client: false,
            clock: Instant::now,
            leaked: Arc::default(),
            config,
        }
    }

    /// The limits of a client that serves calls of its server.
    pub(crate) fn of_client(client: &ClientConfig) -> Self {
        let mut config = ServerConfig::new().without_session_idle();
        config.limits = client.limits;
        config.heartbeat = client.heartbeat;
        config.spin = client.spin;
        Self { is_client: true, ..Self::new(config, usize::MAX, &[]) }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// A connection's place, and its share of the bytes that are held for requests.
    pub(crate) fn connection(&self) -> Result<(Share, Share), Refusal> {
        let limit = self.stats.connections.limit();
        let place = self.stats.connections.open();
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

    /// Room for the bytes of a request that is with its handler.
    pub(crate) fn room(&self, bytes: usize) -> Result<Share, Refusal> {
        let limit = self.held.limit();
        let room = self.held.take(bytes);
        room.ok_or_else(|| overloaded("bytes of unanswered requests", limit, "max_unfinished"))
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
        self.stats.received(socket::receive(&socket, &mut Vec::with_capacity(TURNED_AWAY)).unwrap_or(0));
        let packet = refusal.packet(Version::V1_1, &self.config.limits);
        self.stats.sent(socket::send(&socket, packet.bytes()).unwrap_or(0));
        let _ = socket::finish_writing(&socket);
    }
}

const TURNED_AWAY: usize = 16 * 1024;

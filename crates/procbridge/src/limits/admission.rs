//! Admission: a server's limits, what has been taken of them, and the refusals beyond them. Both faces share it.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use procbridge_proto::{Settings, UnreadRequest, Version, code};

use crate::config::client::ClientConfig;
use crate::config::server::ServerConfig;
use crate::limits::accounts::Accounts;
use crate::limits::inflation::{self, Allowance};
use crate::limits::permits::{Account, Permit, Resource, Semaphore};
use crate::net::listener::AllowedPeers;
use crate::net::socket;
use crate::peer::Peer;
use crate::reply_error::ReplyError;
use crate::reply_error::{answer_lost, denied, overloaded};
use crate::telemetry::log::{Log, LogClass};
use crate::telemetry::stats::Stats;

/// The limits of a server, and what is taken of them.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) config: ServerConfig,
    pub(crate) log: Log,
    /// Whether these are a client's limits, for the calls that its server makes.
    pub(crate) is_client: bool,
    /// Returns the current time. The async face uses the clock of its runtime, which a test may pause.
    pub(crate) clock: fn() -> Instant,
    /// Frees the memory of large messages. The async face does it on a thread for blocking work.
    pub(crate) discard: fn(Vec<Vec<u8>>),
    /// Handlers that still run although their call was answered without them.
    pub(crate) leaked: Arc<AtomicUsize>,
    pub(crate) stats: Stats,
    waiting: Semaphore,
    calls: Semaphore,
    requests: Semaphore,
    answers: Semaphore,
    accounts: Accounts,
    /// The bytes that all sessions together have made this side inflate.
    inflated: Mutex<Allowance>,
    /// The names of the methods that stream, sorted.
    streams: Mutex<Vec<Box<str>>>,
}

/// Whose sessions may be ended for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Sessions of its own process, which has its share of the connections.
    Own,
    /// Sessions of all peers that have more: the server is full.
    All,
}

impl Admission {
    /// Returns the limits of a server. `connections` counts if the settings have no maximum; `methods` are those with
    /// counters.
    pub(crate) fn new(mut config: ServerConfig, connections: usize, methods: &[&str]) -> Self {
        let name = config.program_name();
        let named = |settings: Arc<Settings>| Arc::new(Arc::unwrap_or_clone(settings).with_name(&name));
        config.session_settings = config.session_settings.take().map(named);
        config.limits = config.limits.with_requests_unread().with_answers_unread();
        // Without this bound the descriptors would run out before any peer reaches its share.
        let connections = config.max_connections.unwrap_or(connections).min(socket::most_connections());
        Self {
            stats: Stats::new(connections, methods.iter().copied()),
            waiting: Semaphore::shared(config.max_pending_connections, Resource::Waiting),
            calls: Semaphore::shared(config.max_concurrent_calls, Resource::Calls),
            requests: Semaphore::shared(config.max_buffered_bytes, Resource::Requests),
            answers: Semaphore::shared(config.max_unread_bytes, Resource::Answers),
            accounts: Accounts::new(config.any_user),
            inflated: Mutex::default(),
            streams: Mutex::default(),
            log: Log::new(),
            is_client: false,
            clock: Instant::now,
            discard: drop,
            leaked: Arc::default(),
            config,
        }
    }

    /// Returns the limits of a client that serves calls of its server.
    pub(crate) fn for_client(client: &ClientConfig) -> Self {
        let mut config = ServerConfig::new().with_idle_timeout(None);
        config.limits = client.limits;
        config.keepalive = client.keepalive;
        config.spin = client.spin;
        Self { is_client: true, ..Self::new(config, usize::MAX, &[]) }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Returns the account for a session with `peer`.
    pub(crate) fn session(&self, peer: &Peer) -> Arc<Account> {
        self.accounts.session(peer)
    }

    /// Takes a permit for a connection, and an empty one for the bytes of its requests.
    pub(crate) fn connection(&self, peer: &Peer) -> Result<(Permit, Permit), ReplyError> {
        let connections = &self.stats.connections;
        let classic = self.accounts.classic(peer);
        let permit = connections.open_for(classic.above().unwrap_or(&classic));
        permit
            .zip(self.requests.try_acquire_for(&classic, 0))
            .ok_or_else(|| limit_reached(connections.semaphore(), 1, "connections", "max_connections"))
    }

    /// Returns whose session may be ended for a connection that got no permit.
    pub(crate) fn whose_place(&self) -> Whose {
        let connections = &self.stats.connections;
        if connections.open_now() < connections.limit() { Whose::Own } else { Whose::All }
    }

    /// Takes a permit for a connection whose request has not arrived yet.
    pub(crate) fn waiting(&self, peer: &Peer) -> Result<Permit, ReplyError> {
        self.waiting.try_acquire_for(&self.accounts.process(peer), 1).ok_or_else(|| self.full())
    }

    /// Returns the answer to a connection that does not get such a permit.
    pub(crate) fn full(&self) -> ReplyError {
        limit_reached(&self.waiting, 1, "connections without a request", "max_pending_connections")
    }

    /// Takes a permit for a call. A built-in method needs none: it is answered at once, and tells why a server is full.
    pub(crate) fn call(
        &self,
        account: &Arc<Account>,
        method: Option<&str>,
    ) -> Result<Option<Permit>, ReplyError> {
        if method.is_some_and(|method| self.config.answers_itself(method)) {
            return Ok(None);
        }
        let slot = self.calls.try_acquire_for(account, 1);
        slot.map(Some).ok_or_else(|| limit_reached(&self.calls, 1, "calls in flight", "max_concurrent_calls"))
    }

    /// Takes a permit for the bytes of a request of a session. Small requests are bounded by the number of calls, so no
    /// other peer's large ones can keep them out.
    pub(crate) fn request(&self, account: &Arc<Account>, bytes: usize) -> Result<Option<Permit>, ReplyError> {
        if bytes < UNCOUNTED_BYTES {
            return Ok(None);
        }
        let space = self.requests.try_acquire_for(account, bytes);
        space.map(Some).ok_or_else(|| {
            limit_reached(&self.requests, bytes, "bytes of unanswered requests", "max_buffered_bytes")
        })
    }

    /// Takes a permit for the bytes of a large answer, until the peer has read it. A small one needs none.
    pub(crate) fn answer(&self, account: &Arc<Account>, bytes: usize) -> Result<Option<Permit>, ReplyError> {
        if bytes <= LARGE {
            return Ok(None);
        }
        let space = self.answers.try_acquire_for(account, bytes);
        space.map(Some).ok_or_else(|| self.full_of_answers(bytes))
    }

    /// Returns the answer to a call for whose own answer there is no space.
    pub(crate) fn full_of_answers(&self, bytes: usize) -> ReplyError {
        let what = "bytes of answers not yet read";
        answer_lost(&limit_reached(&self.answers, bytes, what, "max_unread_bytes"))
    }

    /// Returns the bytes of large answers that may be queued for one session while its peer does not read.
    pub(crate) fn session_share(&self) -> usize {
        (2 * self.config.limits.max_body() as usize).max(SESSION_ANSWERS).min(self.answers.limit())
    }

    /// Takes the bytes that a session's request inflates to, from `allowance` of the session and from that of all.
    ///
    /// # Errors
    ///
    /// Returns the answer to the caller if the session, or all together, make the server inflate far more than they
    /// send.
    pub(crate) fn inflate(
        &self,
        allowance: &mut Allowance,
        request: &UnreadRequest,
        now: Instant,
    ) -> Result<(), ReplyError> {
        let excess = Allowance::excess(request.size(), request.arrived());
        if excess == 0 {
            return Ok(());
        }
        let mut all = self.inflated.lock().unwrap_or_else(PoisonError::into_inner);
        if allowance.take(excess, inflation::SESSION_BYTES, now)
            && all.take(excess, inflation::SERVER_BYTES, now)
        {
            return Ok(());
        }
        Err(ReplyError::new("compressed requests inflate to far more than was sent, too often")
            .with_code(code::OVERLOADED))
    }

    /// Sets the methods that stream, sorted by name. They have no handler timeout.
    pub(crate) fn set_streams(&self, names: &[&str]) {
        *self.streams() = names.iter().map(|&name| name.into()).collect();
    }

    /// Whether `method` streams.
    pub(crate) fn is_stream(&self, method: Option<&str>) -> bool {
        method.is_some_and(|method| self.streams().binary_search_by(|name| (**name).cmp(method)).is_ok())
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Box<str>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more than half of the permits for connections or for calls are taken. From there on a classic caller
    /// that has shut its sending side down counts as gone.
    pub(crate) fn is_scarce(&self) -> bool {
        let connections = &self.stats.connections;
        connections.open_now() > connections.limit() / 2 || self.calls.used() > self.calls.limit() / 2
    }

    /// Returns how many calls have a permit.
    pub(crate) fn calls(&self) -> usize {
        self.calls.used()
    }

    /// Whether `peer` may connect at all, if `peers` may.
    pub(crate) fn check(&self, peers: AllowedPeers, peer: &Peer) -> Result<(), ReplyError> {
        match peers {
            AllowedPeers::SameUser if !peer.is_same_user_or_root() => Err(denied()),
            _ => Ok(()),
        }
    }

    /// Logs that an accepted connection is dropped because of an error of the system.
    pub(crate) fn log_dropped(&self, peer: &Peer, error: &std::io::Error) {
        self.log.write(LogClass::Accept, || format!("{peer}: connection dropped: {error}"));
    }

    /// Answers a connection beyond the limit with `refusal`, without waiting: it has no permit.
    pub(crate) fn refuse_connection(&self, socket: impl AsFd, peer: &Peer, refusal: &ReplyError) {
        self.log.write(LogClass::Refused, || format!("{peer}: {}", refusal.message()));
        // Read what it has sent, or closing would reset the connection and destroy the answer.
        self.stats
            .received(socket::receive(&socket, &mut Vec::with_capacity(REFUSAL_READ_LIMIT)).unwrap_or(0));
        let packet = refusal.packet(Version::V1_1, &self.config.limits);
        self.stats.sent(socket::send(&socket, packet.bytes()).unwrap_or(0));
        let _ = socket::finish_writing(&socket);
    }
}

/// Returns the refusal of `more` units: either the whole limit is taken, or only the peer's share.
fn limit_reached(semaphore: &Semaphore, more: usize, what: &str, setting: &str) -> ReplyError {
    let limit = semaphore.limit();
    if semaphore.used().saturating_add(more) > limit {
        return overloaded(what, limit, setting);
    }
    ReplyError::new(format!("this peer has its share of the server's {what} ({setting} = {limit})"))
        .with_code(code::OVERLOADED)
}

/// Size in bytes from which on an answer or item takes a permit, and waits while many bytes are queued.
pub(crate) const LARGE: usize = 64 * 1024;
/// Bytes of large answers that may always be queued for one session.
const SESSION_ANSWERS: usize = 32 * 1024 * 1024;
const REFUSAL_READ_LIMIT: usize = 16 * 1024;
/// Size in bytes below which a request counts as a call only.
const UNCOUNTED_BYTES: usize = 4 * 1024;

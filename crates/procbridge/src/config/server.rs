//! The settings of servers, each with its default. Both faces share them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use procbridge_proto::{Limits, Settings};

use crate::config::check::{NONE, check_limits, check_token, has_time, is_positive, refused};
use crate::config::token::Token;
use crate::error::Error;

/// Settings of a server.
///
/// [`Server::bind_with`](crate::Server::bind_with) refuses a setting that can never work, with an error of kind
/// `InvalidInput` whose message names it. A timeout beyond the clock's range counts as none.
///
/// ```
/// use procbridge::{Server, ServerConfig};
///
/// let config = ServerConfig::new().with_max_body(64 * 1024 * 1024);
/// let server = Server::bind_with("127.0.0.1:0", config)?;
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub(crate) limits: Limits,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) max_unread_bytes: usize,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_pending_connections: usize,
    pub(crate) max_concurrent_calls: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) min_body_rate: u32,
    pub(crate) write_timeout: Duration,
    pub(crate) handler_timeout: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) linger_timeout: Duration,
    pub(crate) backlog: u16,
    pub(crate) acceptors: Option<usize>,
    pub(crate) spin: Option<Duration>,
    pub(crate) allow_remote: bool,
    pub(crate) any_user: bool,
    pub(crate) explicit_null: bool,
    pub(crate) session_settings: Option<Arc<Settings>>,
    pub(crate) token: Option<Token>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) name: Option<String>,
    pub(crate) ping: bool,
    pub(crate) describe: bool,
    pub(crate) stats: bool,
    pub(crate) subscribe: bool,
}

impl ServerConfig {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            max_buffered_bytes: 256 * 1024 * 1024,
            max_unread_bytes: 256 * 1024 * 1024,
            max_connections: None,
            max_pending_connections: 256,
            max_concurrent_calls: 1024,
            header_timeout: Duration::from_secs(10),
            min_body_rate: 1024,
            write_timeout: Duration::from_secs(10),
            handler_timeout: Some(Duration::from_secs(60)),
            drain_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(5),
            backlog: 1024,
            acceptors: None,
            spin: None,
            allow_remote: false,
            any_user: false,
            explicit_null: false,
            session_settings: Some(Arc::new(Settings::new().with_max_calls(SESSION_CALLS))),
            token: None,
            keepalive: Some(KEEPALIVE),
            idle_timeout: Some(Duration::from_secs(600)),
            name: None,
            ping: true,
            describe: true,
            stats: true,
            subscribe: true,
        }
    }

    /// Sets the largest body that is accepted or answered, in bytes. Default 16 MiB. A larger request is refused from
    /// its header alone, code `too_large`; so is a larger result. The limit is the same for all methods, as the header
    /// does not name the method. Less than 2, the size of an empty object, is refused.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// Sets the deepest nesting of arrays and objects in a request, the body's own object counted. Default and maximum:
    /// 128. Past it: code `too_large`. 0 is refused.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// Sets the longest method name, in bytes. Default 256. Past it: code `too_large`. With 0, only calls without a
    /// method are accepted.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// Sets the limit on the bytes of all unanswered requests together. Default 256 MiB. A request that would exceed it
    /// is refused, code `overloaded`. Peers [share](Self::with_max_concurrent_calls) these bytes like calls. A session's requests
    /// below 4 KiB do not count. 0 is refused.
    #[must_use]
    pub fn with_max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Sets the limit on the bytes of all large answers together that their peers have not read. Default 256 MiB. A
    /// call whose answer would exceed it has run, and is answered with the code `too_large` instead. Peers
    /// [share](Self::with_max_concurrent_calls) these bytes like calls.
    ///
    /// A session whose answers exceed 32 MiB, or twice the largest body, ends unless its peer reads as much within
    /// [`write_timeout`](Self::with_write_timeout). Answers of up to 64 KiB do not count. 0 is refused.
    #[must_use]
    pub fn with_max_unread_bytes(mut self, bytes: usize) -> Self {
        self.max_unread_bytes = bytes;
        self
    }

    /// Sets the limit on open connections. Default 512 with the blocking face, 4,096 with tokio. It is never more than
    /// seven eighths of the process's descriptor limit at the time when the server begins to serve. Processes and
    /// addresses [share](Self::with_max_concurrent_calls) connections like calls.
    ///
    /// A connection beyond the limit evicts a session that has been idle for at least 250 ms: that session ends with
    /// GOODBYE. It is the one idle longest of the process or address with the most sessions. Without such a session the
    /// connection is refused, code `overloaded`. 0 is refused.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Sets the limit on connections among them whose request has not arrived yet. Default 256. One more is refused,
    /// code `overloaded`. Processes and addresses [share](Self::with_max_concurrent_calls) them like calls. 0 is refused.
    #[must_use]
    pub fn with_max_pending_connections(mut self, connections: usize) -> Self {
        self.max_pending_connections = connections;
        self
    }

    /// Sets the concurrency limit: how many handlers run at a time. Default 1,024. One more call is refused, code
    /// `overloaded`. The blocking face has a thread for each. 0 is refused.
    ///
    /// The peers share these permits: the processes of Unix sockets, and the addresses of TCP, whatever number of
    /// sessions each has. One peer alone gets two thirds of them; the fewer are free, the fewer one peer may have. The
    /// last eighth is for peers that have none. The sessions of a peer share its part by the same rule: one alone gets
    /// half of all permits. So a peer that takes all it can keeps no other out. `$/ping`, `$/describe` and `$/stats`
    /// need no permit.
    #[must_use]
    pub fn with_max_concurrent_calls(mut self, calls: usize) -> Self {
        self.max_concurrent_calls = calls;
        self
    }

    /// Sets how long a request's header may take to arrive, from the connection on. Default 10 s. Past it: code
    /// `timeout`. With `None` it may take without end. Zero is refused.
    #[must_use]
    pub fn with_header_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.header_timeout = limit.into().unwrap_or(NEVER);
        self
    }

    /// Sets the minimum receive rate of a request's body, in bytes a second, from its complete header on. Default 1
    /// KiB/s, measured over any 10 s, of which the first 5 s are free. A slower request gets the code `timeout`; a
    /// session ends. With 0 there is no minimum rate, and a body must not be silent for 10 s.
    #[must_use]
    pub fn with_min_body_rate(mut self, bytes_per_second: u32) -> Self {
        self.min_body_rate = bytes_per_second;
        self
    }

    /// Sets how long writing an answer may stall without the peer reading a byte. Default 10 s; then the connection is
    /// closed. With `None` it may stall without end, and holds what it has. Zero is refused.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = limit.into().unwrap_or(NEVER);
        self
    }

    /// Sets the timeout of a handler. Default 60 s; then the caller gets the code `timeout`. A caller's own timeout
    /// applies if it is shorter. A blocking handler cannot be stopped from outside: it runs on, counted as leaked until
    /// it ends, and its result is dropped. With `None`, a handler may run without end, unless the caller sets a
    /// timeout. Zero is refused.
    #[must_use]
    pub fn with_handler_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.handler_timeout = limit.into();
        self
    }

    /// Sets the grace time of a shutdown: how long the server waits for the calls in flight. Default 10 s; then they
    /// get the code `cancelled`. With `None` it waits for all of them. Zero waits for none.
    #[must_use]
    pub fn with_drain_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.drain_timeout = limit.into().unwrap_or(NEVER);
        self
    }

    /// Sets how long a connection lingers after an error answer to a peer that is still sending, so that the answer is
    /// not lost. Default 5 s, and at most 64 MiB are read and dropped. With `None` only the bytes are limited. Zero closes
    /// the connection at once.
    #[must_use]
    pub fn with_linger_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.linger_timeout = limit.into().unwrap_or(NEVER);
        self
    }

    /// Sets the backlog: how many connections the operating system may queue to be accepted. Default 1,024, up to the
    /// system's own limit. 0 is the least that the system has.
    #[must_use]
    pub fn with_backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets, for the blocking face, how many threads wait for connections on each endpoint, each serving what it accepts.
    /// Default twice the number of cores, at least 4 and at most 8. More threads are started while handlers keep these
    /// busy. 0 is raised to 1, and more than 256 are 256.
    #[must_use]
    pub fn with_acceptors(mut self, threads: usize) -> Self {
        self.acceptors = Some(threads.clamp(1, MOST_ACCEPTORS));
        self
    }

    /// Sets, for the blocking face, how long a thread that waits on a session spins before it sleeps. At most 50 us; off by
    /// default.
    ///
    /// Waking a sleeping thread on another core takes long, on a virtual machine longer than all the rest of a call.
    /// Spinning burns a core meanwhile. So it suits programs whose calls closely follow one another on a machine with
    /// idle cores. It backs off exponentially after misses, down to one wait in a thousand. With one core there is no
    /// spinning, and calls on classic connections do not spin.
    #[must_use]
    pub fn with_spin(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.spin = limit.into();
        self
    }

    /// Allows TCP endpoints that other machines can reach, as a [token](Self::with_token) does too. Without a token
    /// there is no authentication, and there is never encryption: every program that reaches the port can call every
    /// method.
    #[must_use]
    pub fn allow_remote(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// Allows Unix-socket peers of other users. By default only root and the user of this process are served, and
    /// others get the code `denied`. An endpoint with a `group`, or a `mode` for group or others, implies it: then the
    /// mode decides.
    #[must_use]
    pub fn allow_any_user(mut self) -> Self {
        self.any_user = true;
        self
    }

    /// Writes a null result as `"payload":null` instead of leaving it out, for clients that need the key (the
    /// royalstream Swift client).
    #[must_use]
    pub fn with_explicit_null(mut self) -> Self {
        self.explicit_null = true;
        self
    }

    /// Sets the server's name, which `$/describe` returns. Default: the name of the program's file.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Turns off `$/ping`, which returns its payload. A built-in method that is off is unknown like any other: the
    /// router may have a method or a fallback for it.
    #[must_use]
    pub fn without_ping(mut self) -> Self {
        self.ping = false;
        self
    }

    /// Turns off `$/describe`, which returns the server's name and its methods with their descriptions, see
    /// [`Router::describe`](crate::Router::describe).
    #[must_use]
    pub fn without_describe(mut self) -> Self {
        self.describe = false;
        self
    }

    /// Turns off `$/stats`, which returns the server's counters since its start: connections, sessions and bytes. For
    /// each method it has the ended calls, the errors among them, the calls in flight, and the durations in
    /// microseconds. The first 1,024 methods by name have counters of their own. Other methods, calls that a fallback
    /// answers and unknown methods are counted together as `$/other`. Built-in methods are not counted.
    #[must_use]
    pub fn without_stats(mut self) -> Self {
        self.stats = false;
        self
    }

    /// Turns off `$/subscribe`, by which a client subscribes to events.
    #[must_use]
    pub fn without_subscribe(mut self) -> Self {
        self.subscribe = false;
        self
    }

    /// Whether the server answers `method` by itself, without a handler.
    pub(crate) fn answers_itself(&self, method: &str) -> bool {
        match method {
            "$/ping" => self.ping,
            "$/describe" => self.describe,
            "$/stats" => self.stats,
            _ => false,
        }
    }

    /// Returns the server's name, or that of the program's file.
    pub(crate) fn program_name(&self) -> String {
        let program = || {
            let path = PathBuf::from(std::env::args_os().next()?);
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        self.name.clone().or_else(program).unwrap_or_default()
    }
}

impl ServerConfig {
    /// Turns sessions off: each call has a connection of its own, also from clients that could keep one open.
    #[must_use]
    pub fn without_sessions(mut self) -> Self {
        self.session_settings = None;
        self
    }

    /// Sets the concurrency limit of one session; a call beyond it gets the code `overloaded`. Default 128. 0 is
    /// refused: use [`without_sessions`](Self::without_sessions) for a server without sessions.
    #[must_use]
    pub fn with_max_session_calls(mut self, calls: u32) -> Self {
        self.session_settings = self
            .session_settings
            .map(|settings| Arc::new(Arc::unwrap_or_clone(settings).with_max_calls(calls)));
        self
    }

    /// Answers only calls that carry this shared secret; others get the code `denied`. Clients send it with
    /// [`ClientConfig::with_token`](crate::ClientConfig::with_token). It is sent unencrypted: on a network, every
    /// program that can read the traffic learns it. It is never printed with the settings. An empty token is refused.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }

    /// Sets the keepalive interval of a session: after so long a silence of the client, it is sent a PING. Default 15
    /// s. After two PINGs without an answer, one interval each, the session ends. The first PING comes after a second
    /// at the earliest, so that a peer that answers does not take the PINGs for a flood. Less than 100 ms is raised to
    /// that: a live peer needs time to answer. With `None`, no session ends because its client is silent. Zero is
    /// refused.
    #[must_use]
    pub fn with_keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.keepalive = silence.into();
        self
    }

    /// Sets the idle timeout of a session over TCP: without a call in flight for so long, it is closed in order.
    /// Default 10 min. Sessions over Unix sockets have no idle timeout. Less than 100 ms is raised to that: a session
    /// that ends with each call costs more than none. With `None`, no session ends because it is idle. Zero is refused.
    #[must_use]
    pub fn with_idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }
}

impl ServerConfig {
    /// Refuses settings that can never work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_limits(&self.limits)?;
        is_positive("max_buffered_bytes", self.max_buffered_bytes)?;
        is_positive("max_unread_bytes", self.max_unread_bytes)?;
        is_positive("max_connections", self.max_connections.unwrap_or(1))?;
        is_positive("max_pending_connections", self.max_pending_connections)?;
        is_positive("max_concurrent_calls", self.max_concurrent_calls)?;
        if self.session_settings.as_ref().is_some_and(|settings| settings.max_calls() == 0) {
            return Err(refused(
                "max_session_calls is 0; use without_sessions for a server without sessions",
            ));
        }
        has_time("header_timeout", Some(self.header_timeout), "; set a longer one")?;
        has_time("write_timeout", Some(self.write_timeout), "; set a longer one")?;
        has_time("handler_timeout", self.handler_timeout, NONE)?;
        has_time("keepalive", self.keepalive, NONE)?;
        has_time("idle_timeout", self.idle_timeout, NONE)?;
        check_token(self.token.as_ref())
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A timeout that is none: it is beyond the range of the clock.
const NEVER: Duration = Duration::MAX;
/// Each acceptor is a waiting thread.
const MOST_ACCEPTORS: usize = 256;
/// Default concurrency limit of one session.
pub(crate) const SESSION_CALLS: u32 = 128;
/// Default keepalive interval: silence before a PING.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);

//! The settings of servers, each with its default. Both faces use the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use procbridge_proto::{Limits, Settings};

use crate::config::check::{check_limits, check_token, has_time, is_positive, no_shorter, refused};
use crate::config::token::Token;
use crate::error::Error;

/// Settings of a server.
///
/// A setting under which nothing could work is refused by [`Server::bind_with`](crate::Server::bind_with), error kind
/// `InvalidInput`, whose message names it. A time beyond the clock's range is no limit.
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
    pub(crate) max_unfinished: usize,
    pub(crate) max_unread: usize,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_waiting: usize,
    pub(crate) max_calls: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) min_rate: u32,
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
    pub(crate) terms: Option<Arc<Settings>>,
    pub(crate) token: Option<Token>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) session_idle: Option<Duration>,
    pub(crate) name: Option<String>,
    pub(crate) ping: bool,
    pub(crate) describe: bool,
    pub(crate) stats: bool,
    pub(crate) subscribe: bool,
}

impl ServerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            max_unfinished: 256 * 1024 * 1024,
            max_unread: 256 * 1024 * 1024,
            max_connections: None,
            max_waiting: 256,
            max_calls: 1024,
            header_timeout: Duration::from_secs(10),
            min_rate: 1024,
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
            terms: Some(Arc::new(Settings::new().with_max_calls(SESSION_CALLS))),
            token: None,
            heartbeat: Some(HEARTBEAT),
            session_idle: Some(Duration::from_secs(600)),
            name: None,
            ping: true,
            describe: true,
            stats: true,
            subscribe: true,
        }
    }

    /// The largest body that is accepted or answered, in bytes. Default 16 MiB. A larger request is refused from its
    /// header alone, code `too_large`; so is a larger result. The limit is one for all methods: the header does not
    /// tell which it will be. Less than 2, an empty object, is refused.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// The deepest nesting of arrays and objects in a request, the body's own object counted. Default and most: 128.
    /// Past it: code `too_large`. 0 is refused.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// The longest method name, in bytes. Default 256. Past it: code `too_large`. With 0, only calls without a method are
    /// taken.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// The bytes held for all requests together that have not been answered yet. Default 256 MiB. The request that
    /// would pass it is refused, code `overloaded`. [Shared out](Self::with_max_calls) as calls are. A session's requests
    /// below 4 KiB are not counted. 0 is refused.
    #[must_use]
    pub fn with_max_unfinished(mut self, bytes: usize) -> Self {
        self.max_unfinished = bytes;
        self
    }

    /// The bytes of all large answers together that wait until their peers have read what was sent before. Default
    /// 256 MiB. A call whose answer would pass it is answered `overloaded` instead, although it has run. [Shared
    /// out](Self::with_max_calls) as calls are. A session whose answers
    /// exceed 32 MiB, or twice the largest body, ends unless its peer reads as much within
    /// [`write_timeout`](Self::with_write_timeout). Answers of up to 64 KiB are not counted. 0
    /// is refused.
    #[must_use]
    pub fn with_max_unread(mut self, bytes: usize) -> Self {
        self.max_unread = bytes;
        self
    }

    /// Connections at a time. Default 512 with the blocking face, 4,096 with tokio, and never more than seven eighths of the
    /// descriptors that the system lets the process have when the server begins to serve. [Shared out](Self::with_max_calls)
    /// among processes and addresses as calls are.
    ///
    /// One more takes the place of a session that has been idle for at least 250 ms: that one ends with GOODBYE. It is one
    /// of the process or address with the most sessions, which has been idle longest of them. If there is none the
    /// connection is refused, code `overloaded`. 0 is refused.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Connections among them whose request has not arrived yet. Default 256. One more is refused, code `overloaded`.
    /// [Shared out](Self::with_max_calls) among processes and addresses as calls are. 0 is refused.
    #[must_use]
    pub fn with_max_waiting(mut self, connections: usize) -> Self {
        self.max_waiting = connections;
        self
    }

    /// Calls that are with their handlers at a time. Default 1,024. One more is refused, code `overloaded`. The
    /// blocking face has a thread for each. 0 is refused.
    ///
    /// The places are shared out among the processes on the other ends (Unix sockets) or their addresses (TCP), whatever
    /// number of sessions each has: one alone gets two thirds of them, and the fewer are free the fewer one may hold. The
    /// last eighth is for processes that hold none. The sessions of a process share its part by the same rule: one alone
    /// gets half of all places. So a peer that takes all it can keeps no other out. `$/ping`, `$/describe` and
    /// `$/stats` need no place.
    #[must_use]
    pub fn with_max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// How long a request's header may take to arrive, from the connection on. Default 10 s. Past it: code `timeout`. Zero
    /// is refused.
    #[must_use]
    pub fn with_header_timeout(mut self, limit: Duration) -> Self {
        self.header_timeout = limit;
        self
    }

    /// How fast a request's body must arrive once its header is there, in bytes a second. Default 1 KiB/s, counted over
    /// any 10 s, of which the first 5 s are free. Slower than that: code `timeout`; in a session, its end. With 0 there is no
    /// least rate, and a body must not be silent for 10 s.
    #[must_use]
    pub fn with_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.min_rate = bytes_per_second;
        self
    }

    /// How long writing an answer may go on without the peer taking a byte. Default 10 s; then the connection is
    /// closed. Zero is refused.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// How long a handler may take. Default 60 s; then the caller is answered with the code `timeout`. A caller's own
    /// limit holds if it is shorter. A blocking handler cannot be stopped from outside: it goes on, counted as leaked
    /// until it ends, and its result is dropped. Zero is refused.
    #[must_use]
    pub fn with_handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = Some(limit);
        self
    }

    /// Lets handlers take for ever, unless the caller says how long it waits.
    #[must_use]
    pub fn without_handler_timeout(mut self) -> Self {
        self.handler_timeout = None;
        self
    }

    /// How long a server that is told to stop waits for the calls in flight. Default 10 s; then they are answered
    /// with the code `cancelled`. Zero waits for none of them.
    #[must_use]
    pub fn with_drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// How long a connection is kept after an error answer to a peer that is still sending, so that the answer is not
    /// lost. Default 5 s, and at most 64 MiB are read and dropped. Zero closes it at once.
    #[must_use]
    pub fn with_linger_timeout(mut self, limit: Duration) -> Self {
        self.linger_timeout = limit;
        self
    }

    /// Connections that the operating system may hold ready to be accepted. Default 1,024, subject to the system's
    /// own limit. With 0 it is the least that the system has.
    #[must_use]
    pub fn with_backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Blocking face: threads that wait for connections on each endpoint, each serving what it accepts. Default twice
    /// the processors, at least 4 and at most 8. More are started while handlers keep these busy. 0 is raised to 1, and
    /// more than 256 are 256.
    #[must_use]
    pub fn with_acceptors(mut self, threads: usize) -> Self {
        self.acceptors = Some(threads.clamp(1, MOST_ACCEPTORS));
        self
    }

    /// Blocking face: how long a thread that waits on a session looks again and again for what arrives before it sleeps. At
    /// most 50 us; off by default.
    ///
    /// To wake a sleeping thread on another processor takes long, on a virtual machine longer than all the rest of a call.
    /// It costs a processor while it looks, so it is for programs whose calls come closely one after the other on a machine
    /// with processors to spare. Where looking brings nothing, it becomes rare by itself: then one wait in a thousand has
    /// a look. With one processor there is none at all. Calls on connections of their own do not look.
    #[must_use]
    pub fn with_spin(mut self, limit: Duration) -> Self {
        self.spin = Some(limit);
        self
    }

    /// Allows TCP endpoints that other machines can reach, as a [token](Self::with_token) does. Without one there is no
    /// authentication, and there is no encryption: whoever reaches the port can call every method.
    #[must_use]
    pub fn allow_remote(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// Allows Unix-socket peers of other users. Without it only root and the user of this process are served, the
    /// others get the code `denied`. An endpoint with a `group`, or a `mode` for group or others, implies it: the
    /// mode decides then.
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

    /// The server's name, as `$/describe` tells it. Default: the name of the program's file.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Switches `$/ping` off, which answers its payload. What is switched off is an unknown method like any: the router
    /// may have a method or a fallback for it.
    #[must_use]
    pub fn without_ping(mut self) -> Self {
        self.ping = false;
        self
    }

    /// Switches `$/describe` off, which answers the server's name and its methods with what is known of them, see
    /// [`Router::describe`](crate::Router::describe).
    #[must_use]
    pub fn without_describe(mut self) -> Self {
        self.describe = false;
        self
    }

    /// Switches `$/stats` off, which answers what the server has counted since it began: connections, sessions and bytes,
    /// and of each method the calls that ended, the errors among them, the calls in flight, and how long calls took, in
    /// microseconds. The first 1,024 methods by name are counted each; the others, calls that a fallback answers and
    /// unknown methods are counted together as `$/other`. The protocol's own methods are not counted.
    #[must_use]
    pub fn without_stats(mut self) -> Self {
        self.stats = false;
        self
    }

    /// Switches `$/subscribe` off, with which a client asks for events.
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

    /// The server's name, or that of the program's file.
    pub(crate) fn program_name(&self) -> String {
        let program = || {
            let path = PathBuf::from(std::env::args_os().next()?);
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        self.name.clone().or_else(program).unwrap_or_default()
    }
}

impl ServerConfig {
    /// Gives each call a connection of its own, also to clients that could keep one.
    #[must_use]
    pub fn without_sessions(mut self) -> Self {
        self.terms = None;
        self
    }

    /// Calls in flight on one session; one more is answered with the code `overloaded`. Default 128. 0 is refused:
    /// [`without_sessions`](Self::without_sessions) is the server that holds none.
    #[must_use]
    pub fn with_max_session_calls(mut self, calls: u32) -> Self {
        self.terms = self.terms.map(|terms| Arc::new(Arc::unwrap_or_clone(terms).with_max_calls(calls)));
        self
    }

    /// Answers only calls that bring this shared secret; the others get the code `denied`. Clients send it with
    /// [`ClientConfig::with_token`](crate::ClientConfig::with_token). It goes over the connection as it is: over a network,
    /// whoever listens there has it. It is left out when the settings are printed. An empty one is refused.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }

    /// How long a client may be silent in a session before it is asked for a sign of life. Default 15 s. After two
    /// questions without an answer, one such time each, the session is ended. The first question comes after a second at
    /// the earliest, so that a peer that answers does not take the questions for a flood. Zero is
    /// [`without_heartbeat`](Self::without_heartbeat), and less than 100 ms is raised to that: a peer that lives needs time
    /// to answer.
    #[must_use]
    pub fn with_heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = no_shorter(silence);
        self
    }

    /// Never ends a session because its client is silent.
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = None;
        self
    }

    /// How long a session over TCP may have no call in flight before it is ended in an orderly way. Default 10 min. Unix
    /// sockets are not ended for that. Zero is [`without_session_idle`](Self::without_session_idle), and less than 100 ms is
    /// raised to that: a session that ends with each call costs more than none.
    #[must_use]
    pub fn with_session_idle(mut self, limit: Duration) -> Self {
        self.session_idle = no_shorter(limit);
        self
    }

    /// Never ends a session because it has no calls.
    #[must_use]
    pub fn without_session_idle(mut self) -> Self {
        self.session_idle = None;
        self
    }
}

impl ServerConfig {
    /// Refuses the settings under which nothing could work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_limits(&self.limits)?;
        is_positive("max_unfinished", self.max_unfinished)?;
        is_positive("max_unread", self.max_unread)?;
        is_positive("max_connections", self.max_connections.unwrap_or(1))?;
        is_positive("max_waiting", self.max_waiting)?;
        is_positive("max_calls", self.max_calls)?;
        if self.terms.as_ref().is_some_and(|terms| terms.max_calls() == 0) {
            return Err(refused(
                "max_session_calls is 0; without_sessions is the server that holds no sessions",
            ));
        }
        has_time("header_timeout", Some(self.header_timeout), "")?;
        has_time("write_timeout", Some(self.write_timeout), "")?;
        has_time("handler_timeout", self.handler_timeout, "; without_handler_timeout sets no limit")?;
        check_token(self.token.as_ref())
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Each is a thread that waits.
const MOST_ACCEPTORS: usize = 256;
/// Calls in flight on one session.
pub(crate) const SESSION_CALLS: u32 = 128;
/// Silence before a PING.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

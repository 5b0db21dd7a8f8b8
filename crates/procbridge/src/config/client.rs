//! The settings of clients, each with its default. Both faces share them.

use std::time::Duration;

use procbridge_proto::{Codec, Limits, Settings, Version};

use crate::config::check::{NONE, check_limits, check_token, has_time, refused};
use crate::config::server::{KEEPALIVE, SESSION_CALLS};
use crate::config::token::Token;
use crate::error::Error;

/// Settings of a client.
///
/// [`Client::with_config`](crate::Client::with_config) refuses a setting that can never work, with an error of kind
/// `InvalidInput` whose message names it. A timeout beyond the clock's range counts as none.
///
/// ```
/// use std::time::Duration;
/// use procbridge::{Client, ClientConfig};
///
/// let config = ClientConfig::new().with_call_timeout(Duration::from_secs(2));
/// let client = Client::with_config(":8000", config)?;
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) version: Version,
    pub(crate) sessions: SessionMode,
    pub(crate) spin: Option<Duration>,
    pub(crate) session_settings: Settings,
    pub(crate) session_calls: u32,
    pub(crate) compression: Option<Codec>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) token: Option<Token>,
    pub(crate) max_connecting: usize,
}

/// Whether the calls of a client share a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionMode {
    /// They do if the server supports sessions. Otherwise each call opens a connection, and the server sees no
    /// difference to a classic client.
    #[default]
    Auto,
    /// They do not: each call opens a connection.
    Off,
    /// They do: a server without sessions gets no call. A `$/ping` finds out first.
    Required,
}

impl ClientConfig {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Some(Duration::from_secs(5)),
            call_timeout: Some(Duration::from_secs(30)),
            version: Version::V1_1,
            sessions: SessionMode::Auto,
            spin: None,
            session_settings: Settings::new().with_max_calls(0),
            session_calls: SESSION_CALLS,
            compression: None,
            queue_timeout: Some(QUEUE_TIMEOUT),
            keepalive: Some(KEEPALIVE),
            token: None,
            max_connecting: MAX_CONNECTING,
        }
    }

    /// Returns the inactivity timeout of a new connection, if no other timeout applies: for a server that accepts it
    /// and never answers. A session has its keepalive instead.
    pub(crate) fn inactivity_timeout(&self) -> Option<Duration> {
        self.call_timeout.or_else(|| self.keepalive?.checked_mul(SILENCES))
    }

    /// Sets the largest body that is sent or accepted, in bytes. Default 16 MiB. A larger payload is not sent, error
    /// kind `InvalidInput`; a larger answer is refused from its header alone, error kind `TooLarge`. Less than 2, the
    /// size of an empty object, is refused.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// Sets the deepest nesting of arrays and objects in an answer, the body's own object counted. Default and maximum:
    /// 128. 0 is refused.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// Sets the longest method name that is sent, in bytes. Default 256, as in servers. A longer name is not sent,
    /// error kind `InvalidInput`. With 0, only calls without a method can be made.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// Sets the connect timeout, for all addresses of a name together. Default 5 s. Past it: error kind `Timeout`,
    /// outcome `NotSent`. With `None`, connecting may take as long as the operating system allows. Zero is refused.
    #[must_use]
    pub fn with_connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// Sets the timeout of a call, from its start to the complete answer, connecting included. Default 30 s. Past it:
    /// error kind `Timeout`. The server does not learn this timeout; it does learn the one that a single call has of
    /// its own. With `None`, a call may wait for its answer without end. Zero is refused.
    #[must_use]
    pub fn with_call_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = limit.into();
        self
    }

    /// Uses the superseded 1.0 format, for servers that know nothing else. Default 1.1. In 1.0 every call names a
    /// method, a null payload is sent as `{}`, and errors have no code.
    #[must_use]
    pub fn speaking_1_0(mut self) -> Self {
        self.version = Version::V1_0;
        self
    }
}

impl ClientConfig {
    /// Sets whether calls share a connection. Default [`SessionMode::Auto`].
    #[must_use]
    pub fn with_sessions(mut self, sessions: SessionMode) -> Self {
        self.sessions = sessions;
        self
    }

    /// Sets how many items of a stream the server may send before the program takes them. Default 64; 0 is raised to 1.
    #[must_use]
    pub fn with_stream_window(mut self, items: u32) -> Self {
        self.session_settings = self.session_settings.with_stream_window(items);
        self
    }

    /// Sets how many bytes of a stream's items the server may send before the program takes them. Default 1 MiB; the
    /// last item may exceed it, and 0 is raised to 1.
    #[must_use]
    pub fn with_stream_bytes(mut self, bytes: u32) -> Self {
        self.session_settings = self.session_settings.with_stream_bytes(bytes);
        self
    }

    /// Sets how many calls of the server run here at a time, if this client [serves](crate::Client::serve). Default
    /// 128; calls beyond this concurrency limit get the code `overloaded`. 0 is refused.
    #[must_use]
    pub fn with_max_session_calls(mut self, calls: u32) -> Self {
        self.session_calls = calls;
        self
    }

    /// Compresses requests of 1 KiB and more in sessions whose server supports `codec`; the server then compresses its
    /// answers. Off by default: on one machine it costs more than it saves.
    #[must_use]
    pub fn with_compression(mut self, codec: Codec) -> Self {
        self.compression = Some(codec);
        self
    }

    /// Sets how long a call is queued while the session is at the server's concurrency limit. Default 5 s, and at most
    /// the timeout of the call. Past it the call is sent, and the server answers `overloaded` if it is still at its
    /// limit. Streams and one-way calls are not queued. With `None` or zero, no call is queued.
    #[must_use]
    pub fn with_queue_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.queue_timeout = limit.into().filter(|limit| !limit.is_zero());
        self
    }

    /// Sets the keepalive interval of a session: after so long a silence of the server, it is sent a PING. Default 15
    /// s. After two PINGs without an answer, one interval each, the session is given up. Less than 100 ms is raised to
    /// that: a live peer needs time to answer. With `None`, a silent server is never given up. Zero is refused.
    #[must_use]
    pub fn with_keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.keepalive = silence.into();
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

    /// Sets how many connections this client makes at a time if each call opens one, as for a server without sessions.
    /// Default 16. Other calls wait, within their own timeout.
    ///
    /// The client begins with 4. A connection that is refused, or that the server is too busy to accept, halves this
    /// number; successful ones raise it again. Some servers accept one connection at a time and lose those that arrive
    /// meanwhile. Established connections do not count.
    #[must_use]
    pub fn with_max_connecting(mut self, connections: usize) -> Self {
        self.max_connecting = connections;
        self
    }

    /// Sets the shared secret that the server asks for, sent with each call. It is sent unencrypted, and never printed
    /// with the settings. An empty token is refused.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }
}

impl ClientConfig {
    /// Refuses settings that can never work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_limits(&self.limits)?;
        has_time("connect_timeout", self.connect_timeout, NONE)?;
        has_time("call_timeout", self.call_timeout, NONE)?;
        has_time("keepalive", self.keepalive, NONE)?;
        if self.session_calls == 0 {
            return Err(refused(
                "max_session_calls is 0, and a client that serves takes at least 1 call at a time",
            ));
        }
        check_token(self.token.as_ref())
    }
}

/// Long enough for calls that end; short enough where none ends because each waits for a queued one.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// A busy server with the usual backlog would drop more; fewer cost nothing within one machine.
const MAX_CONNECTING: usize = 16;
/// Keepalive intervals of silence after which a session is given up.
const SILENCES: u32 = 3;

impl Default for ClientConfig {
    fn default() -> Self {
        Self::new()
    }
}

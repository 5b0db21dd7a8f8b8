//! The settings of clients, each with its default. Both faces use the same.

use std::time::Duration;

use procbridge_proto::{Codec, Limits, Settings, Version};

use crate::config::check::{check_limits, check_token, has_time, no_shorter, refused};
use crate::config::server::{HEARTBEAT, SESSION_CALLS};
use crate::config::token::Token;
use crate::error::Error;

/// Settings of a client.
///
/// A setting under which nothing could work is refused by [`Client::connect_with`](crate::Client::connect_with), error kind
/// `InvalidInput`, whose message names it. A time beyond the clock's range is no limit.
///
/// ```
/// use std::time::Duration;
/// use procbridge::{Client, ClientConfig};
///
/// let config = ClientConfig::new().with_call_timeout(Duration::from_secs(2));
/// let client = Client::connect_with(":8000", config)?;
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) version: Version,
    pub(crate) sessions: Sessions,
    pub(crate) spin: Option<Duration>,
    pub(crate) terms: Settings,
    pub(crate) session_calls: u32,
    pub(crate) compression: Option<Codec>,
    pub(crate) hold: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) token: Option<Token>,
    pub(crate) max_connecting: usize,
}

/// Whether a client keeps a connection open for many calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sessions {
    /// Where the server can. A server that cannot is given a connection for each call, and sees no difference.
    #[default]
    Offered,
    /// Never: each call has a connection of its own.
    Never,
    /// Always: a server that cannot gets no call. Whether it can is found out with a `$/ping`.
    Required,
}

impl ClientConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Some(Duration::from_secs(5)),
            call_timeout: Some(Duration::from_secs(30)),
            version: Version::V1_1,
            sessions: Sessions::Offered,
            spin: None,
            terms: Settings::new().with_max_calls(0),
            session_calls: SESSION_CALLS,
            compression: None,
            hold: Some(HOLD),
            heartbeat: Some(HEARTBEAT),
            token: None,
            max_connecting: MAX_CONNECTING,
        }
    }

    /// How long nothing may happen on a new connection, where no other limit ends that: the server takes it, and says nothing.
    /// A session's heartbeat begins with the session.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.call_timeout.or_else(|| self.heartbeat?.checked_mul(SILENCES))
    }

    /// The largest body that is sent or accepted, in bytes. Default 16 MiB. A larger payload is not sent, error kind
    /// `InvalidInput`; a larger answer is refused from its header alone, error kind `TooLarge`. Less than 2, an empty object,
    /// is refused.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// The deepest nesting of arrays and objects in an answer, the body's own object counted. Default and most: 128. 0 is
    /// refused.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// The longest method name that is sent, in bytes. Default 256, as servers have it. A longer one is not sent, error
    /// kind `InvalidInput`. With 0, only calls without a method can be made.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// How long connecting may take, all addresses of a name together. Default 5 s. Past it: error kind `Timeout`,
    /// outcome `NotSent`. Zero is refused.
    #[must_use]
    pub fn with_connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// Lets connecting take as long as the operating system allows.
    #[must_use]
    pub fn without_connect_timeout(mut self) -> Self {
        self.connect_timeout = None;
        self
    }

    /// How long a call may take from its start to the whole answer, connecting included. Default 30 s. Past it: error
    /// kind `Timeout`. The server is not told of this one; it is of the limit that a single call can have of its own.
    /// Zero is refused.
    #[must_use]
    pub fn with_call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = Some(limit);
        self
    }

    /// Lets a call wait for its answer for ever.
    #[must_use]
    pub fn without_call_timeout(mut self) -> Self {
        self.call_timeout = None;
        self
    }

    /// Speaks the superseded 1.0 format, for servers that know nothing else. Default 1.1. In it every call names a
    /// method, a null payload is sent as `{}`, and errors have no code.
    #[must_use]
    pub fn speaking_1_0(mut self) -> Self {
        self.version = Version::V1_0;
        self
    }
}

impl ClientConfig {
    /// Whether calls share a connection. Default [`Sessions::Offered`].
    #[must_use]
    pub fn with_sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self
    }

    /// Items of a stream that the server may send before they are taken here. Default 64; 0 is raised to 1.
    #[must_use]
    pub fn with_stream_window(mut self, items: u32) -> Self {
        self.terms = self.terms.with_stream_window(items);
        self
    }

    /// Bytes of a stream's items that the server may send before they are taken here. Default 1 MiB; the last item may
    /// go beyond it, and 0 is raised to 1.
    #[must_use]
    pub fn with_stream_bytes(mut self, bytes: u32) -> Self {
        self.terms = self.terms.with_stream_bytes(bytes);
        self
    }

    /// Calls of the server that are served here at a time, if this client [serves](crate::Client::serve). Default 128;
    /// the server is told `overloaded` beyond that. 0 is refused.
    #[must_use]
    pub fn with_max_session_calls(mut self, calls: u32) -> Self {
        self.session_calls = calls;
        self
    }

    /// Compresses requests of 1 KiB and more in sessions whose server can read it; answers come in kind. Off by default:
    /// on one machine it costs more than it saves.
    #[must_use]
    pub fn with_compression(mut self, codec: Codec) -> Self {
        self.compression = Some(codec);
        self
    }

    /// How long a call waits for its turn while the session has as many calls in flight as the server takes at a time.
    /// Default 5 s, and at most as long as the call may take. Past it the call is sent, and the server answers `overloaded`
    /// if there is still no room. Streams and one-way calls do not wait. Zero is [`without_hold`](Self::without_hold).
    #[must_use]
    pub fn with_hold(mut self, limit: Duration) -> Self {
        self.hold = Some(limit).filter(|limit| !limit.is_zero());
        self
    }

    /// Sends every call at once, however many are in flight.
    #[must_use]
    pub fn without_hold(mut self) -> Self {
        self.hold = None;
        self
    }

    /// How long the server may be silent in a session before it is asked for a sign of life. Default 15 s. After two
    /// questions without an answer, one such time each, the session is given up. Zero is
    /// [`without_heartbeat`](Self::without_heartbeat), and less than 100 ms is raised to that: a peer that lives needs time
    /// to answer.
    #[must_use]
    pub fn with_heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = no_shorter(silence);
        self
    }

    /// Never gives up a silent server.
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = None;
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

    /// Connections that this client makes at a time, where each call has one of its own: a server that holds no sessions. Default
    /// 16. Other calls wait, within their own time.
    ///
    /// It begins with 4. A connection that is refused, or that the server is too busy to accept, halves it, and those that are
    /// made raise it again. Some servers accept one connection at a time and lose what comes meanwhile. Connections that are
    /// made do not count.
    #[must_use]
    pub fn with_max_connecting(mut self, connections: usize) -> Self {
        self.max_connecting = connections;
        self
    }

    /// The shared secret that the server asks for, sent with each call. It goes over the connection as it is, and is left
    /// out when the settings are printed. An empty one is refused.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }
}

impl ClientConfig {
    /// Refuses the settings under which nothing could work.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_limits(&self.limits)?;
        has_time("connect_timeout", self.connect_timeout, "; without_connect_timeout sets no limit")?;
        has_time("call_timeout", self.call_timeout, "; without_call_timeout sets no limit")?;
        if self.session_calls == 0 {
            return Err(refused(
                "max_session_calls is 0, and a client that serves takes at least 1 call at a time",
            ));
        }
        check_token(self.token.as_ref())
    }
}

/// Long enough for calls that end, short enough where none ends because each waits for one that is held.
const HOLD: Duration = Duration::from_secs(5);

/// More would be dropped by a server with the usual queue when a machine is busy; fewer cost nothing within one machine.
const MAX_CONNECTING: usize = 16;
/// A session is given up after so many times its heartbeat.
const SILENCES: u32 = 3;

impl Default for ClientConfig {
    fn default() -> Self {
        Self::new()
    }
}

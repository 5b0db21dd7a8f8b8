//! The settings of clients and servers, each with its default. Both faces use the same.

use std::time::Duration;

use procbridge_proto::{Limits, Version};

/// Settings of a client.
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
}

impl ClientConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Some(Duration::from_secs(5)),
            call_timeout: Some(Duration::from_secs(30)),
            version: Version::V1_1,
        }
    }

    /// The largest body that is sent or accepted, in bytes. Default 16 MiB. A larger payload is not sent, error kind
    /// `InvalidInput`; a larger answer is refused from its header alone, error kind `TooLarge`.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// The deepest nesting of arrays and objects in an answer, the body's own object counted. Default and most: 128.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// The longest method name that is sent, in bytes. Default 256, as servers have it. A longer one is not sent, error
    /// kind `InvalidInput`.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// How long connecting may take, all addresses of a name together. Default 5 s. Past it: error kind `Timeout`,
    /// outcome `NotSent`.
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

impl Default for ClientConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Settings of a server.
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
    pub(crate) allow_remote: bool,
    pub(crate) any_user: bool,
    pub(crate) explicit_null: bool,
}

impl ServerConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            limits: Limits::default(),
            max_unfinished: 256 * 1024 * 1024,
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
            allow_remote: false,
            any_user: false,
            explicit_null: false,
        }
    }

    /// The largest body that is accepted or answered, in bytes. Default 16 MiB. A larger request is refused from its
    /// header alone, code `too_large`; so is a larger result. The limit is one for all methods: the header does not
    /// tell which it will be.
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_body(bytes);
        self
    }

    /// The deepest nesting of arrays and objects in a request, the body's own object counted. Default and most: 128.
    /// Past it: code `too_large`.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.limits = self.limits.with_max_depth(levels);
        self
    }

    /// The longest method name, in bytes. Default 256. Past it: code `too_large`.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.limits = self.limits.with_max_method(bytes);
        self
    }

    /// The bytes held for all requests together that have not been answered yet. Default 256 MiB. The request that
    /// would pass it is refused, code `overloaded`.
    #[must_use]
    pub fn with_max_unfinished(mut self, bytes: usize) -> Self {
        self.max_unfinished = bytes;
        self
    }

    /// Connections at a time. Default 512 with the blocking face, 4,096 with tokio. One more is refused, code
    /// `overloaded`.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Connections among them whose request has not arrived yet. Default 256. One more is refused, code `overloaded`.
    #[must_use]
    pub fn with_max_waiting(mut self, connections: usize) -> Self {
        self.max_waiting = connections;
        self
    }

    /// Calls that are with their handlers at a time. Default 1,024. One more is refused, code `overloaded`. The
    /// blocking face has a thread for each, and no more of them than connections.
    #[must_use]
    pub fn with_max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// How long a request's header may take to arrive, from the connection on. Default 10 s. Past it: code `timeout`.
    #[must_use]
    pub fn with_header_timeout(mut self, limit: Duration) -> Self {
        self.header_timeout = limit;
        self
    }

    /// How fast a request's body must arrive once its header is there, in bytes a second. Default 1 KiB/s, counted over
    /// any 10 s, of which the first 5 s are free. Slower than that: code `timeout`.
    #[must_use]
    pub fn with_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.min_rate = bytes_per_second;
        self
    }

    /// How long writing an answer may go on without the peer taking a byte. Default 10 s; then the connection is
    /// closed.
    #[must_use]
    pub fn with_write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// How long a handler may take. Default 60 s; then the caller is answered with the code `timeout`. A caller's own
    /// limit holds if it is shorter. A blocking handler cannot be stopped from outside: it goes on, counted as leaked
    /// until it ends, and its result is dropped.
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
    /// with the code `cancelled`.
    #[must_use]
    pub fn with_drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// How long a connection is kept after an error answer to a peer that is still sending, so that the answer is not
    /// lost. Default 5 s, and at most 64 MiB are read and dropped.
    #[must_use]
    pub fn with_linger_timeout(mut self, limit: Duration) -> Self {
        self.linger_timeout = limit;
        self
    }

    /// Connections that the operating system may hold ready to be accepted. Default 1,024, subject to the system's
    /// own limit.
    #[must_use]
    pub fn with_backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Blocking face: threads that wait for connections on each endpoint, each serving what it accepts. Default twice
    /// the processors, at least 2 and at most 8. More are started while handlers keep these busy.
    #[must_use]
    pub fn with_acceptors(mut self, threads: usize) -> Self {
        self.acceptors = Some(threads.max(1));
        self
    }

    /// Allows TCP endpoints that other machines can reach. There is no authentication and no encryption: whoever
    /// reaches the port can call every method.
    #[must_use]
    pub fn allow_remote(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// Allows Unix-socket peers of other users. Without it only root and the user of this process are served, the
    /// others get the code `denied`. An endpoint with a `mode` for group or others implies it: the mode decides then.
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
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

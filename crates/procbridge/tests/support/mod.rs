//! Both faces behind one pair of types, so that one list of scenarios runs on all of them, and a watchdog on all that
//! waits.
#![allow(unreachable_pub, reason = "a module of a test program")]
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

pub mod door;
pub mod proxy;
pub mod raw;
pub mod streams;

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procbridge::{
    Client, ClientConfig, Endpoint, Error, Router, RunningServer, Server, ServerConfig, Sessions,
};
use serde_json::Value;
use serde_json::value::RawValue;

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    Blocking,
    #[cfg(feature = "tokio")]
    Tokio,
}

/// A client's implementation, and whether it offers sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKind {
    pub face: Face,
    pub sessions: Sessions,
}

impl From<Face> for ClientKind {
    fn from(face: Face) -> Self {
        Self { face, sessions: Sessions::Offered }
    }
}

/// What a server serves.
pub enum Methods {
    /// Blocking functions, which both faces serve.
    Blocking(Router),
    /// Async ones.
    #[cfg(feature = "tokio")]
    Async(procbridge::tokio::Router),
}

impl From<Router> for Methods {
    fn from(router: Router) -> Self {
        Self::Blocking(router)
    }
}

#[cfg(feature = "tokio")]
impl From<procbridge::tokio::Router> for Methods {
    fn from(router: procbridge::tokio::Router) -> Self {
        Self::Async(router)
    }
}

/// Which kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
    Abstract,
}

pub const FACES: &[Face] = &[
    Face::Blocking,
    #[cfg(feature = "tokio")]
    Face::Tokio,
];
pub const TRANSPORTS: &[Transport] = &[Transport::Tcp, Transport::Unix, Transport::Abstract];

/// A server of either face, stopped when dropped.
pub struct TestServer {
    pub endpoint: Endpoint,
    inner: Inner,
    dir: Option<tempfile::TempDir>,
}

enum Inner {
    Blocking(RunningServer),
    #[cfg(feature = "tokio")]
    Tokio {
        handle: procbridge::tokio::ServerHandle,
        ended: mpsc::Receiver<Result<(), Error>>,
    },
}

/// A client of either face.
#[derive(Clone)]
pub enum TestClient {
    Blocking(Client),
    #[cfg(feature = "tokio")]
    Tokio(procbridge::tokio::Client, std::sync::Arc<tokio::runtime::Runtime>),
}

impl TestServer {
    pub fn start(
        face: Face,
        transport: Transport,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let unique = dir.path().file_name().unwrap().to_str().unwrap().to_string();
        let endpoint = match transport {
            Transport::Tcp => "127.0.0.1:0".to_string(),
            Transport::Unix => format!("unix:{}/s.sock", dir.path().display()),
            Transport::Abstract => format!("unix:@procbridge-test-{}-{unique}", process::id()),
        };
        Self { dir: Some(dir), ..Self::start_at(face, &endpoint.parse().unwrap(), methods, config) }
    }

    /// A server at a place of the test's choice.
    pub fn start_at(
        face: Face,
        endpoint: &Endpoint,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Self {
        let methods = methods.into();
        let (endpoint, inner) = match face {
            Face::Blocking => {
                #[allow(clippy::infallible_destructuring_match, reason = "with tokio there is another")]
                let router = match methods {
                    Methods::Blocking(router) => router,
                    #[cfg(feature = "tokio")]
                    Methods::Async(_) => panic!("the blocking face serves no async functions"),
                };
                let server = Server::bind_with(endpoint, config).unwrap().spawn(router).unwrap();
                (server.endpoint(), Inner::Blocking(server))
            }
            #[cfg(feature = "tokio")]
            Face::Tokio => {
                let (ready, started) = mpsc::channel();
                let (done, ended) = mpsc::channel();
                let endpoint = endpoint.clone();
                let router = match methods {
                    Methods::Blocking(router) => procbridge::tokio::Router::from(router),
                    Methods::Async(router) => router,
                };
                thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                    let result = runtime.unwrap().block_on(async {
                        let server = procbridge::tokio::Server::bind_with(&endpoint, config)?;
                        let endpoint = server.endpoints().first().unwrap().clone();
                        ready.send((endpoint, server.handle())).unwrap();
                        server.serve(router).await
                    });
                    let _ = done.send(result);
                });
                let (endpoint, handle) = started.recv().unwrap();
                (endpoint, Inner::Tokio { handle, ended })
            }
        };
        Self { endpoint, inner, dir: None }
    }

    pub fn stop_soon(&self) {
        match &self.inner {
            Inner::Blocking(server) => server.handle().stop(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { handle, .. } => handle.stop(),
        }
    }

    pub fn abort_soon(&self) {
        match &self.inner {
            Inner::Blocking(server) => server.handle().abort(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { handle, .. } => handle.abort(),
        }
    }

    /// Stops in an orderly way and waits for the end.
    pub fn stop(self) {
        drop(self.end());
    }

    /// The same; the directory of its socket stays for another server.
    pub fn end(mut self) -> Option<tempfile::TempDir> {
        self.stop_soon();
        match self.inner {
            Inner::Blocking(server) => server.stop().unwrap(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { ended, .. } => ended.recv_timeout(WATCHDOG).unwrap().unwrap(),
        }
        self.dir.take()
    }

    pub fn client(&self, kind: impl Into<ClientKind>) -> TestClient {
        TestClient::new(kind, &self.endpoint, ClientConfig::default())
    }

    /// A bare connection, for bytes that no client would send.
    pub fn connect(&self) -> RawStream {
        raw(&self.endpoint)
    }
}

impl TestClient {
    pub fn new(kind: impl Into<ClientKind>, endpoint: &Endpoint, config: ClientConfig) -> Self {
        let ClientKind { face, sessions } = kind.into();
        let config = if sessions == Sessions::Offered { config } else { config.with_sessions(sessions) };
        match face {
            Face::Blocking => Self::Blocking(Client::connect_with(endpoint, config).unwrap()),
            #[cfg(feature = "tokio")]
            Face::Tokio => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let client = procbridge::tokio::Client::connect_with(endpoint, config).unwrap();
                Self::Tokio(client, std::sync::Arc::new(runtime.unwrap()))
            }
        }
    }

    pub fn request(&self, method: &str, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.request(method, payload),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.request(method, payload)),
        }
    }

    pub fn request_without_method(&self, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.call_without_method().payload(payload).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                runtime.block_on(client.call_without_method().payload(payload).send())
            }
        }
    }

    /// JSON text there and back, untouched.
    pub fn request_text(&self, method: Option<&str>, payload: &str) -> Result<String, Error> {
        let payload = RawValue::from_string(payload.to_string()).unwrap();
        let answer: Result<Box<RawValue>, Error> = match self {
            Self::Blocking(client) => {
                let call = method.map_or(client.call_without_method(), |method| client.call(method));
                call.payload(&payload).send()
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                let call = method.map_or(client.call_without_method(), |method| client.call(method));
                runtime.block_on(call.payload(&payload).send())
            }
        };
        answer.map(|answer| answer.get().to_string())
    }

    pub fn request_within(&self, limit: Duration, method: &str, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.call(method).payload(payload).timeout(limit).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                runtime.block_on(client.call(method).payload(payload).timeout(limit).send())
            }
        }
    }
}

/// A blocking connection of either kind.
pub enum RawStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects to `endpoint` with nothing of ours in between.
pub fn raw(endpoint: &Endpoint) -> RawStream {
    let text = endpoint.to_string();
    let stream = if let Some(name) = text.strip_prefix("unix:@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        RawStream::Unix(UnixStream::connect_addr(&address).unwrap())
    } else if let Some(path) = text.strip_prefix("unix:") {
        RawStream::Unix(UnixStream::connect(path).unwrap())
    } else {
        RawStream::Tcp(TcpStream::connect(text.strip_prefix("tcp:").unwrap()).unwrap())
    };
    match &stream {
        RawStream::Tcp(stream) => stream.set_read_timeout(Some(WATCHDOG)).unwrap(),
        RawStream::Unix(stream) => stream.set_read_timeout(Some(WATCHDOG)).unwrap(),
    }
    stream
}

impl RawStream {
    pub fn finish_writing(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// The status code and the body of the one packet that arrives before the end; nothing if there is none.
    pub fn answer(&mut self) -> Option<(u8, Value)> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).unwrap();
        let (header, body) = bytes.split_at_checked(11)?;
        assert_eq!(header.get(..2), Some(&b"pb"[..]));
        Some((*header.get(4).unwrap(), serde_json::from_slice(body).unwrap()))
    }
}

impl AsFd for RawStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A connection to a TCP server from another address of this machine.
pub fn raw_from(endpoint: &Endpoint, source: [u8; 4]) -> RawStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let text = endpoint.to_string();
    let server: std::net::SocketAddr = text.strip_prefix("tcp:").unwrap().parse().unwrap();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &std::net::SocketAddr::from((source, 0))).unwrap();
    connect(&socket, &server).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(WATCHDOG)).unwrap();
    RawStream::Tcp(stream)
}

/// The first of `streams` to have something to read.
pub fn first_readable(streams: &[RawStream]) -> usize {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled: Vec<_> = streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let limit = Timespec { tv_sec: i64::try_from(WATCHDOG.as_secs()).unwrap(), tv_nsec: 0 };
    poll(&mut polled, Some(&limit)).unwrap();
    polled.iter().position(|stream| !stream.revents().is_empty()).unwrap()
}

impl Read for RawStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for RawStream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A request packet, made by hand.
pub fn packet(body: &str) -> Vec<u8> {
    let mut out = b"pb\x01\x01\0\0\0".to_vec();
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body.as_bytes());
    out
}

/// Runs `scenario`, and ends the whole test program if it hangs.
pub fn watched<T: Send + 'static>(scenario: impl FnOnce() -> T + Send + 'static) -> T {
    watched_as("", scenario)
}

/// The same, telling which one it was that failed.
fn watched_as<T: Send + 'static>(name: &str, scenario: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = scenario();
        let _ = sender.send(());
        result
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = done.recv_timeout(WATCHDOG) {
        let _ = writeln!(std::io::stderr(), "watchdog: no end after {WATCHDOG:?} {name}");
        process::abort();
    }
    match thread.join() {
        Ok(result) => result,
        Err(panic) => {
            let _ = writeln!(std::io::stderr(), "failed {name}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Runs `test` in a process of its own, for what is counted or set once in a process: this program again, which runs the
/// test called `name` and no other.
pub fn in_own_process(name: &str, test: impl FnOnce()) {
    const NAME: &str = "PROCBRIDGE_TEST_IN_OWN_PROCESS";
    if env::var(NAME).is_ok_and(|asked| asked == name) {
        return test();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(NAME, name).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    // No test has another name: then it would run nothing, and succeed.
    let is_passed = output.status.success() && told.contains("test result: ok. 1 passed");
    assert!(is_passed, "{}: {told}{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Runs `scenario` on every face of the server, every face of the client, and every transport, with sessions and with
/// a connection for each call.
pub fn everywhere(scenario: fn(Face, ClientKind, Transport)) {
    for sessions in [Sessions::Offered, Sessions::Never] {
        for &server in FACES {
            for &face in FACES {
                for &transport in TRANSPORTS {
                    // An abstract name is a Unix socket: once is enough.
                    if sessions == Sessions::Offered || transport != Transport::Abstract {
                        let name = format!("{server:?} {face:?} {transport:?} {sessions:?}");
                        watched_as(&name, move || scenario(server, ClientKind { face, sessions }, transport));
                    }
                }
            }
        }
    }
}

/// The same for what needs sessions.
pub fn everywhere_with_sessions(scenario: fn(Face, Face, Transport)) {
    for &server in FACES {
        for &client in FACES {
            for transport in [Transport::Tcp, Transport::Unix] {
                let name = format!("{server:?} {client:?} {transport:?}");
                watched_as(&name, move || scenario(server, client, transport));
            }
        }
    }
}

/// Waits for something that must come by itself, of which nobody tells.
pub fn eventually(mut done: impl FnMut() -> bool) {
    let late = std::time::Instant::now() + WATCHDOG / 2;
    while !done() {
        assert!(std::time::Instant::now() < late, "it did not come");
        // Those who are waited for need the processor.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Far more than anything here takes.
pub const WATCHDOG: Duration = Duration::from_secs(60);

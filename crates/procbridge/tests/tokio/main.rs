//! The async face by itself: handlers, limits, the end of a server, and futures that are dropped half-way. What both faces
//! must do alike is in `classic` and `session`.
#![cfg(feature = "tokio")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod beside_large;
mod calling;
mod clock;
mod cutting;
mod endings;
mod handlers;
mod layers;
mod limits;
mod sessions;
mod stopping;
mod streams;

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use procbridge::tokio::{Client, Router, RunningServer, Server};
use procbridge::{ClientConfig, Endpoint, Error, ErrorKind, Outcome, ServerConfig, Sessions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;

/// Where a server of a test listens, and how its client calls it.
struct Place {
    endpoint: String,
    sessions: Sessions,
}

/// A bare connection, for bytes that no client would send.
enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One packet as it came: status, flags and body.
#[derive(Debug)]
struct RawPacket {
    status: u8,
    flags: u8,
    body: Vec<u8>,
}

/// Tells through a channel that it was dropped.
struct Dropped(std::sync::mpsc::Sender<()>);

/// Runs `scenario` on both flavours of runtime, over TCP and over Unix sockets, with sessions and without.
fn everywhere<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    with_sessions(&scenario);
    without_sessions(&scenario);
}

/// Runs `scenario` on both flavours of runtime, over TCP and over Unix sockets, with sessions.
fn with_sessions<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    for builder in [Builder::new_current_thread, two_threads] {
        for transport in ["tcp", "unix"] {
            run(builder, transport, Sessions::Offered, &scenario);
        }
    }
}

/// Runs `scenario` with a connection for each call.
fn without_sessions<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    run(Builder::new_current_thread, "unix", Sessions::Never, &scenario);
    run(two_threads, "tcp", Sessions::Never, &scenario);
}

fn run<T: Future<Output = ()>>(
    builder: fn() -> Builder,
    transport: &str,
    sessions: Sessions,
    scenario: impl Fn(Place) -> T,
) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = match transport {
        "tcp" => "127.0.0.1:0".to_string(),
        _ => format!("unix:{}/s.sock", dir.path().display()),
    };
    let runtime = builder().enable_all().build().unwrap();
    runtime.block_on(watched(scenario(Place { endpoint, sessions })));
    // A handler that is lost must not hold up the tests as well.
    runtime.shutdown_timeout(WATCHDOG);
}

fn two_threads() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

/// Nothing here may hang.
async fn watched<T>(work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WATCHDOG, work).await {
        Ok(done) => done,
        Err(_) => panic!("no end after {WATCHDOG:?}"),
    }
}

impl Place {
    fn serve(&self, router: Router, config: ServerConfig) -> (RunningServer, Client) {
        let server = Server::bind_with(&self.endpoint, config).unwrap().spawn(router);
        let client = self.client(&server);
        (server, client)
    }

    fn client(&self, server: &RunningServer) -> Client {
        let config = ClientConfig::new().with_sessions(self.sessions);
        Client::connect_with(server.endpoint(), config).unwrap()
    }
}

impl Raw {
    async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint.path() {
            Some(path) => UnixStream::connect(path).await.map(Self::Unix),
            None => {
                let port = endpoint.port().unwrap();
                TcpStream::connect(("127.0.0.1", port)).await.map(Self::Tcp)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }

    /// Whether something can be read by now.
    async fn has_answer(&self) -> bool {
        let readable = async {
            match self {
                Self::Tcp(stream) => stream.readable().await,
                Self::Unix(stream) => stream.readable().await,
            }
        };
        cut(1, readable).await.is_some()
    }

    /// The next packet.
    async fn packet(&mut self) -> io::Result<RawPacket> {
        let mut header = [0; 11];
        self.read_exact(&mut header).await?;
        let mut body = vec![0; u32::from_le_bytes(header[7..11].try_into().unwrap()) as usize];
        self.read_exact(&mut body).await?;
        Ok(RawPacket { status: header[4], flags: header[5], body })
    }

    async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.read_exact(buffer).await.map(drop),
            Self::Unix(stream) => stream.read_exact(buffer).await.map(drop),
        }
    }

    async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Tcp(stream) => stream.read_to_end(&mut bytes).await?,
            Self::Unix(stream) => stream.read_to_end(&mut bytes).await?,
        };
        Ok(bytes)
    }

    /// The status code and the body of the one packet that arrives before the end.
    async fn answer(&mut self) -> (u8, Value) {
        let bytes = self.read_to_end().await.unwrap();
        assert_eq!(bytes.get(..2), Some(&b"pb"[..]), "no answer");
        (bytes[4], serde_json::from_slice(&bytes[11..]).unwrap())
    }

    /// The code of the bad response that arrives before the end.
    async fn code(&mut self) -> String {
        let (status, body) = self.answer().await;
        assert_eq!(status, 2, "{body}");
        body["code"].as_str().unwrap().to_string()
    }
}

impl RawPacket {
    /// The call id of a packet of a session.
    fn id(&self) -> u32 {
        u32::from_le_bytes(self.body[..4].try_into().unwrap())
    }

    /// The content of a packet of a session.
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body[4..]).unwrap()
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

/// A request packet, made by hand.
fn packet(body: &str) -> Vec<u8> {
    let mut out = b"pb\x01\x01\0\0\0".to_vec();
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body.as_bytes());
    out
}

/// A packet with flags, made by hand.
fn packet_of(status: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![b'p', b'b', 1, 1, status, flags, 0];
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body);
    out
}

/// A packet of a session, made by hand.
fn session_packet(status: u8, id: u32, json: &str) -> Vec<u8> {
    packet_of(status, 0, &[&id.to_le_bytes(), json.as_bytes()].concat())
}

/// The message, the code and the data of a bad response.
fn refusal(result: Result<Value, Error>) -> (String, Option<String>, Option<String>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::Replied), "{error}");
    let remote = error.remote().unwrap();
    let data = remote.data().map(|data| data.get().to_string());
    (remote.message().to_string(), remote.code().map(str::to_string), data)
}

/// The code of a bad response.
fn code_of(result: Result<Value, Error>) -> String {
    refusal(result).1.unwrap()
}

/// Looks again and again, with everybody else running in between, until it is so.
async fn eventually(mut it_is_so: impl AsyncFnMut() -> bool) {
    while !it_is_so().await {
        tokio::task::yield_now().await;
    }
}

/// Polls `work` at most `polls` times and drops it then; its result if that was enough.
async fn cut<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The number of `kind` that the server has counted so far.
async fn counted(client: &Client, kind: &str, key: &str) -> u64 {
    let stats: Value = client.request("$/stats", &()).await.unwrap();
    stats[kind][key].as_u64().unwrap()
}

/// Far more than anything here takes.
const WATCHDOG: Duration = Duration::from_secs(60);

//! The async face by itself: handlers, limits, the end of a server, and futures that are dropped half-way. The tests
//! that both faces must pass alike are in `classic` and `session`.
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
#[path = "../support/mod.rs"]
mod support;

use std::future::poll_fn;
use std::task::Poll;

use procbridge::tokio::{Client, Router, RunningServer, Server};
use procbridge::{ClientConfig, ServerConfig, SessionMode};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::support::wire::AsyncStream;
use crate::support::{WATCHDOG, block_on};

/// Where a server of a test listens, and how its client calls it.
struct Place {
    endpoint: String,
    sessions: SessionMode,
}

/// Tells through a channel that it was dropped.
struct Dropped(std::sync::mpsc::Sender<()>);

/// Returns methods: one answers at once, one waits until the door is open.
fn door_router(door: &watch::Receiver<bool>) -> Router {
    let door = door.clone();
    Router::new().method("echo", |value: Value| async move { value }).method("wait", move || {
        let mut door = door.clone();
        async move { door.wait_for(|open| *open).await.is_ok() }
    })
}

/// Runs `scenario` on both flavours of runtime, over TCP and over Unix sockets, with sessions and without.
fn everywhere<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    with_sessions(&scenario);
    without_sessions(&scenario);
}

/// Runs `scenario` on both flavours of runtime, over TCP and over Unix sockets, with sessions.
fn with_sessions<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    for builder in [Builder::new_current_thread, two_threads] {
        for transport in ["tcp", "unix"] {
            run(builder, transport, SessionMode::Auto, &scenario);
        }
    }
}

/// Runs `scenario` with a connection for each call.
fn without_sessions<T: Future<Output = ()>>(scenario: impl Fn(Place) -> T) {
    run(Builder::new_current_thread, "unix", SessionMode::Off, &scenario);
    run(two_threads, "tcp", SessionMode::Off, &scenario);
}

fn run<T: Future<Output = ()>>(
    builder: fn() -> Builder,
    transport: &str,
    sessions: SessionMode,
    scenario: impl Fn(Place) -> T,
) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = match transport {
        "tcp" => "127.0.0.1:0".to_string(),
        _ => format!("unix:{}/s.sock", dir.path().display()),
    };
    let runtime = builder().enable_all().build().unwrap();
    block_on(&runtime, scenario(Place { endpoint, sessions }));
    // A handler that is lost must not hold up the tests as well.
    runtime.shutdown_timeout(WATCHDOG);
}

fn two_threads() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    builder
}

impl Place {
    fn serve(&self, router: Router, config: ServerConfig) -> (RunningServer, Client) {
        let server = Server::bind_with(&self.endpoint, config).unwrap().spawn(router);
        let client = self.client(&server);
        (server, client)
    }

    fn client(&self, server: &RunningServer) -> Client {
        let config = ClientConfig::new().with_sessions(self.sessions);
        Client::with_config(server.endpoint(), config).unwrap()
    }
}

/// Whether something can be read from `stream` by now.
async fn has_answer(stream: &AsyncStream) -> bool {
    cut(1, stream.readable()).await.is_some()
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

/// Looks again and again, with all other tasks running in between, until it is so.
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

/// Returns the number of `kind` that the server has counted so far.
async fn counted(client: &Client, kind: &str, key: &str) -> u64 {
    let stats: Value = client.request("$/stats", &()).await.unwrap();
    stats[kind][key].as_u64().unwrap()
}

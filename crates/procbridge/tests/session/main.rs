//! Sessions: what they do for programs, and what no peer, handler or server may bring about in them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod calls;
mod cancelling;
mod client_flow;
mod ends;
mod events;
mod holding;
mod limits;
mod log;
mod log_that_blocks;
mod reverse;
mod review;
mod sessions;
mod shares;
mod spin;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use procbridge::{Call, ClientConfig, Error, ErrorKind, ItemSink, Outcome, Refusal, Router, ServerConfig};
use serde_json::{Value, json};
use support::door::Door;
use support::{Face, TestClient, TestServer, Transport};

/// Methods for all: what answers at once, what fails, what waits, what streams.
fn router(door: &Door) -> Router {
    let door = door.clone();
    Router::new()
        .method("echo", |value: Value| value)
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method("err", || Err::<(), _>(Refusal::new("generated error").with_code("test.generated")))
        .method("panic", || -> u8 { panic!("on purpose") })
        .method("big", |size: usize| "x".repeat(size))
        .method("wait", move |call: &Call| door.pass(call))
        .stream("count", |n: u64, items: &mut ItemSink| -> Result<u64, Refusal> {
            (0..n).try_for_each(|i| items.send(&i))?;
            Ok(n * 10)
        })
}

fn start(face: Face, transport: Transport, config: ServerConfig) -> (TestServer, Door) {
    let door = Door::default();
    (TestServer::start(face, transport, router(&door), config), door)
}

/// A client that has its session.
fn opened(server: &TestServer, face: Face) -> TestClient {
    opened_with(server, face, ClientConfig::new())
}

fn opened_with(server: &TestServer, face: Face, config: ClientConfig) -> TestClient {
    let client = TestClient::new(face, &server.endpoint, config);
    assert_eq!(client.request("$/ping", &json!(null)).unwrap(), json!(null));
    client
}

/// The code of a bad response.
fn code_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    remote(result).1
}

/// The message and the code of a bad response.
fn remote<T: std::fmt::Debug>(result: Result<T, Error>) -> (String, String) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::Replied), "{error:?}");
    let remote = error.remote().unwrap();
    (remote.message().to_string(), remote.code().unwrap_or_else(|| panic!("no code: {error}")).to_string())
}

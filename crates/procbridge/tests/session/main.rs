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

use procbridge::{ClientConfig, Error};
use serde_json::{Value, json};

use crate::support::faces::{Face, TestClient, TestServer, refusal};

/// Returns a client that has its session.
fn opened(server: &TestServer, face: Face) -> TestClient {
    opened_with(server, face, ClientConfig::new())
}

fn opened_with(server: &TestServer, face: Face, config: ClientConfig) -> TestClient {
    let client = TestClient::new(face, &server.endpoint, config);
    assert_eq!(client.request("$/ping", &json!(null)).unwrap(), json!(null));
    client
}

/// Returns the message and the code of a bad response.
fn remote(result: Result<Value, Error>) -> (String, String) {
    let (message, code, _) = refusal(result);
    (message, code.unwrap())
}

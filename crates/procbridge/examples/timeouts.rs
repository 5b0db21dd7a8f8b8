//! Timeouts on both sides: the caller's ends the wait, and the handler learns that the call is cancelled.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;
use std::time::Duration;

use procbridge::{Call, Client, ClientConfig, Router, Server};

/// Counts until it is done or its call is cancelled.
fn count(call: &Call, to: u64) -> u64 {
    for n in 0..to {
        if call.is_cancelled() {
            println!("  the handler stops at {n}");
            return n;
        }
        thread::sleep(Duration::from_millis(5));
    }
    to
}

fn main() -> Result<(), procbridge::Error> {
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("count", count))?;
    // Every call of this client has a timeout of two seconds, unless it sets its own.
    let config = ClientConfig::new().with_call_timeout(Duration::from_secs(2));
    let client = Client::with_config(server.endpoint(), config)?;

    println!("count 3    -> {}", client.request::<u64>("count", &3)?);
    let timeout = Duration::from_millis(100);
    if let Err(error) = client.call("count").payload(&1000).timeout(timeout).send::<u64>() {
        println!("count 1000 -> {error} (outcome {:?})", error.outcome());
        assert!(error.is_timeout());
    }
    // The server is not affected.
    println!("count 10   -> {}", client.request::<u64>("count", &10)?);
    server.shutdown()
}

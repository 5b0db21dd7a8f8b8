//! One connection for a thousand tasks: threads share a client, and their calls share a session.
//!
//! Run it with `cargo run --example thousand`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;
use std::time::{Duration, Instant};

use procbridge::{Client, Router, Server, ServerConfig};
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let work = |n: u64| {
        thread::sleep(Duration::from_millis(100));
        n * n
    };
    // By default a session has 128 calls in flight, and the server 1,024, of which no session gets all. A blocking
    // server runs a thread for each slow call.
    let config = ServerConfig::new().with_max_session_calls(1_000).with_max_concurrent_calls(4_000);
    let server = Server::bind_with("127.0.0.1:0", config)?.spawn(Router::new().method("work", work))?;

    let client = Client::new(server.endpoint())?;
    // The first call opens the session. Calls that begin before it is open have connections of their own.
    client.request::<u64>("work", &0)?;

    let (client, began) = (&client, Instant::now());
    let sum = thread::scope(|scope| {
        let call = move |n: u64| client.request::<u64>("work", &n);
        let tasks: Vec<_> = (1..=1_000).map(|n| scope.spawn(move || call(n))).collect();
        tasks.into_iter().filter_map(|task| task.join().ok()).sum::<Result<u64, _>>()
    })?;
    println!("1000 calls of 100 ms took {} ms together; the sum is {sum}", began.elapsed().as_millis());

    let stats: Value = client.request("$/stats", &())?;
    println!("connections: {}", stats.get("connections").unwrap_or(&Value::Null));
    Ok(())
}

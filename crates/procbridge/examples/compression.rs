//! Compression, which a client asks for, with the features `lz4` and `zstd`; without them messages go uncompressed.
//!
//! Run it with `cargo run --example compression --features lz4,zstd`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Client, ClientConfig, Codec, Error, Router, Server};
use serde_json::{Value, json};

/// Returns how many bytes the server has read and written so far.
fn bytes(client: &Client) -> Result<(u64, u64), Error> {
    let stats: Value = client.request("$/stats", &())?;
    let count = |key: &str| stats.pointer(key).and_then(Value::as_u64).unwrap_or_default();
    Ok((count("/bytes/in"), count("/bytes/out")))
}

fn main() -> Result<(), Error> {
    let rows: Vec<Value> = (0..2_000).map(|n| json!({"id": n, "state": "ready", "host": "worker"})).collect();
    let rows = Value::from(rows);
    println!("a payload of {} B, there and back", rows.to_string().len());

    for codec in [None, Some(Codec::Lz4), Some(Codec::Zstd)] {
        let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("echo", |v: Value| v))?;
        let config = codec.into_iter().fold(ClientConfig::new(), ClientConfig::with_compression);
        let client = Client::with_config(server.endpoint(), config)?;
        // The first call offers the session, and is never compressed.
        let before = bytes(&client)?;
        assert_eq!(client.request::<Value>("echo", &rows)?, rows);
        let after = bytes(&client)?;
        println!("{codec:?}: {} B to the server, {} B back", after.0 - before.0, after.1 - before.1);
    }
    Ok(())
}

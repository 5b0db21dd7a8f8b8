//! Classic peers: a client of eleven bytes and JSON, and a server without sessions.
//!
//! Run it with `cargo run --example classic_peer`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{Read, Write};
use std::net::TcpStream;

use procbridge::{Client, ItemSink, ReplyError, Router, Server, ServerConfig};

/// Does what the packages of the other languages do: one request, one answer, the end.
fn classic(address: &str, body: &str) -> std::io::Result<String> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let packet = [b"pb\x01\x01\0\0\0".as_slice(), &length, body.as_bytes()].concat();
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(&packet)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let (header, body) = answer.split_at_checked(11).unwrap_or_default();
    Ok(format!("header {header:?} body {}", String::from_utf8_lossy(body)))
}

fn count(to: u32, items: &mut ItemSink) -> Result<(), ReplyError> {
    (1..=to).try_for_each(|n| items.send(&n))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>()).stream("count", count);

    // A classic client calls a server with all features: each call is answered, and a stream is one array.
    let server = Server::bind("127.0.0.1:0")?.spawn(router.clone())?;
    let address = server.endpoint().to_string().trim_start_matches("tcp:").to_string();
    for body in [r#"{"method":"sum","payload":[1,2]}"#, r#"{"method":"count","payload":3}"#] {
        println!("{body}\n  {}", classic(&address, body)?);
    }

    // A client offers a session to a server that has none: calls and streams work all the same.
    let classic = Server::bind_with("127.0.0.1:0", ServerConfig::new().without_sessions())?.spawn(router)?;
    let client = Client::new(classic.endpoint())?;
    println!("sum: {}", client.request::<i64>("sum", &[1, 2])?);
    println!("count: {:?}", client.stream::<u32>("count", &3)?.collect::<Result<Vec<_>, _>>()?);
    // A call that needs a session returns an error that says so.
    if let Err(error) = client.subscribe(["build.*"]) {
        println!("subscribe: {error}");
    }
    Ok(())
}

//! The built-in methods of a server, and a layer around all its methods.
//!
//! Run it with `cargo run --example inspect`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Instant;

use procbridge::{Client, Error, ReplyError, Router, Server, ServerConfig, code, layers};
use serde_json::{Value, json};

fn main() -> Result<(), Error> {
    let router = Router::new()
        // At most eight calls at a time; the first layer is the outermost.
        .layer(layers::max_in_flight(8))
        .layer(|call, next| {
            let (method, began) = (call.method().unwrap_or_default().to_string(), Instant::now());
            if method.starts_with("admin.") {
                return Err(ReplyError::new("not for you").with_code(code::DENIED));
            }
            let handled = next.run();
            println!("  layer: {method}, good: {}, {:?}", handled.is_ok(), began.elapsed());
            handled
        })
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .describe("sum", "Adds the numbers.")
        .method("admin.reload", || ());
    let config = ServerConfig::new().with_name("calculator");
    let server = Server::bind_with("127.0.0.1:0", config)?.spawn(router)?;
    let client = Client::connect(server.endpoint())?;

    println!("$/ping: {}", client.request::<Value>("$/ping", &json!({"n": 1}))?);
    println!("sum: {}", client.request::<i64>("sum", &[1, 2, 3])?);
    if let Err(error) = client.request::<()>("admin.reload", &()) {
        println!("admin.reload: {error}");
    }

    let described: Value = client.request("$/describe", &())?;
    println!("$/describe: {described:#}");
    let stats: Value = client.request("$/stats", &())?;
    println!("$/stats: {stats:#}");
    Ok(())
}

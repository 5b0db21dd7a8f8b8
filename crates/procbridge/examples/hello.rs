//! A server and a client in one process: all of ProcBridge in a dozen lines.
//!
//! Run it with `cargo run --example hello`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Client, Router, Server};
use serde_json::{Value, json};

fn main() -> Result<(), procbridge::Error> {
    // A method is a function with a name. With port 0 the system chooses a free port.
    let router = Router::new()
        .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
        .method("greet", |name: String| format!("hello {name}"))
        .method("echo", |anything: Value| anything);
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    println!("serving on {}", server.endpoint());

    let client = Client::connect(server.endpoint())?;
    let sum: i64 = client.request("sum", &[1, 2, 3, 4])?;
    println!("sum [1,2,3,4]   -> {sum}");
    let greeting: String = client.request("greet", "world")?;
    println!("greet \"world\"   -> {greeting}");
    let echo: Value = client.request("echo", &json!({"any": ["JSON", null, 1.5]}))?;
    println!("echo {{\"any\":..}} -> {echo}");
    if let Err(error) = client.request::<i64>("smu", &[1]) {
        println!("smu [1]         -> error: {error}");
    }
    Ok(())
}

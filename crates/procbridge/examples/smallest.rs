//! The smallest program that serves and calls, as the README shows it: `cargo run --example smallest`.

use procbridge::{Client, Router, Server};

fn main() -> Result<(), procbridge::Error> {
    // A server: functions by name.
    let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;

    // A client, in this process or any other, in this language or any other.
    let client = Client::connect(server.endpoint())?;
    let sum: i64 = client.request("sum", &[1, 2, 3])?;
    assert_eq!(sum, 6);
    Ok(())
}

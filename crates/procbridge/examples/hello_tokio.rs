//! `hello` with a stream, with async handlers and clients: `cargo run --example hello_tokio --features tokio`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use procbridge::ReplyError;
use procbridge::tokio::{Client, ItemSink, Router, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), procbridge::Error> {
    let router = Router::new()
        .method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() })
        .method("slow", |milliseconds: u64| async move {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            "done"
        })
        .stream("count", |to: u32, mut items: ItemSink| async move {
            for n in 1..=to {
                items.send(&n).await?;
            }
            Ok::<(), ReplyError>(())
        });
    let server = Server::bind("127.0.0.1:0")?.spawn(router);

    let client = Client::connect(server.endpoint()).await?;
    let (sum, slow) =
        tokio::join!(client.request::<i64>("sum", &[1, 2, 3, 4]), client.request::<String>("slow", &50));
    println!("sum [1,2,3,4] -> {}", sum?);
    println!("slow 50       -> {}", slow?);

    let mut items = client.stream::<u32>("count", &3).await?;
    while let Some(n) = items.next().await {
        println!("count         -> {}", n?);
    }

    // Dropping a call's future cancels the call; here the timeout does.
    let timeout = Duration::from_millis(50);
    if let Err(error) = client.call("slow").payload(&10_000).timeout(timeout).send::<String>().await {
        println!("slow 10000    -> {error}");
    }
    server.shutdown().await
}

//! A stream, a subscription and a call in the other direction, as the README shows them: `cargo run --example tour`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Call, Client, Error, Hub, ItemSink, ReplyError, Router, Server};

fn main() -> Result<(), Error> {
    a_stream()?;
    a_subscription()?;
    a_reverse_call()
}

fn a_stream() -> Result<(), Error> {
    let router = Router::new()
        .stream("count", |to: u32, items: &mut ItemSink| (1..=to).try_for_each(|n| items.send(&n)));
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    let client = Client::connect(server.endpoint())?;
    for n in client.stream::<u32>("count", &3)? {
        println!("{}", n?);
    }
    Ok(())
}

fn a_subscription() -> Result<(), Error> {
    let hub = Hub::new();
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().events(&hub))?;
    let client = Client::connect(server.endpoint())?;
    let builds = client.subscribe(["build.*"])?;
    hub.publish("build.done", &42)?;
    for event in builds.take(1) {
        println!("build {}", event?.payload::<u32>()?);
    }
    Ok(())
}

fn a_reverse_call() -> Result<(), Error> {
    let router = Router::new().method("greet", |call: &Call| -> Result<String, ReplyError> {
        let name: String = call.session()?.request("name", &())?;
        Ok(format!("hello {name}"))
    });
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    let client = Client::connect(server.endpoint())?;
    client.serve(Router::new().method("name", || "world"))?;
    println!("{}", client.request::<String>("greet", &())?);
    Ok(())
}

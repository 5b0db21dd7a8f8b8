//! Events to many: an event published under a topic goes to all its subscribers.
//!
//! Run it with `cargo run --example events`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use procbridge::{Client, ClientConfig, Error, Event, Hub, Missed, Router, Server};

fn show(name: &str, event: &Event) {
    let payload = event.payload_text().unwrap_or("null");
    println!("{name}: {} {payload}", event.topic());
}

fn main() -> Result<(), Error> {
    // A hub that queues four events for each slow subscriber. The default is 1,024.
    let hub = Hub::with_queue(4);
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().events(&hub))?;

    let client = Client::connect(server.endpoint())?;
    let mut all = client.subscribe(["build.*"])?;
    let mut done = client.subscribe(["*.done", "disk.full"])?;

    let count = hub.publish("build.start", &"x86")?;
    println!("build.start goes to {count}");
    let count = hub.publish("build.done", &"x86")?;
    println!("build.done goes to {count}");
    for event in all.by_ref().take(2) {
        show("all", &event?);
    }
    if let Some(event) = done.next() {
        show("done", &event?);
    }

    // A slow subscriber: it takes few events at a time, and does not read while many are published.
    let config = ClientConfig::new().with_stream_window(2);
    let slow = Client::with_config(server.endpoint(), config)?.subscribe(["tick"])?;
    for n in 1..=100 {
        hub.publish("tick", &n)?;
    }
    for event in slow {
        let event = event?;
        if let Missed::Events(count) = event.missed() {
            println!("slow: {count} events were dropped here");
        }
        show("slow", &event);
        if event.payload::<u32>()? == 100 {
            break;
        }
    }
    Ok(())
}

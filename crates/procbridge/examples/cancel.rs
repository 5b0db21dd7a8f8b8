//! Cancelling: a caller that no longer waits stops the method, by a timeout or by dropping a stream.
//!
//! Run it with `cargo run --example cancel`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procbridge::{Call, Client, ItemSink, ReplyError, Router, Server, code};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (ended, endings) = mpsc::channel();
    let stopped = ended.clone();
    let router = Router::new()
        // A method that runs long checks from time to time whether its call was cancelled.
        .method("search", move |call: &Call, rounds: u32| {
            for round in 0..rounds {
                if call.is_cancelled() {
                    ended.send(format!("search stops at {round}, time left: {:?}", call.remaining()))?;
                    return Err(ReplyError::new("the call was cancelled").with_code(code::CANCELLED));
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok(rounds)
        })
        // A stream need not check: `send` returns an error once the caller has gone.
        .stream("ticks", move |items: &mut ItemSink| -> Result<(), ReplyError> {
            for tick in 0_u64.. {
                if let Err(refusal) = items.send(&tick) {
                    stopped.send(format!("ticks stops at {tick}: {}", refusal.message()))?;
                    return Err(refusal);
                }
            }
            Ok(())
        });
    let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    let client = Client::new(server.endpoint())?;

    println!("search 3: {}", client.request::<u32>("search", &3)?);
    let timeout = Duration::from_millis(100);
    if let Err(error) = client.call("search").payload(&100_000).timeout(timeout).send::<u32>() {
        println!("search 100000: {error} (a timeout: {})", error.is_timeout());
    }
    println!("  {}", endings.recv()?);

    // Dropping the stream after three items cancels it.
    for tick in client.stream::<u64>("ticks", &())?.take(3) {
        println!("tick {}", tick?);
    }
    println!("  {}", endings.recv()?);
    Ok(())
}

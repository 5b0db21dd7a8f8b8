//! Progress of a long job: the method sends items while it works, and the caller sees them as they arrive.
//!
//! Run it with `cargo run --example progress`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::thread;
use std::time::Duration;

use procbridge::{Client, ItemSink, ReplyError, Router, Server};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Progress {
    done: u32,
    of: u32,
}

/// Works, reports its progress, and returns its own result at the end.
fn convert(files: u32, progress: &mut ItemSink) -> Result<String, ReplyError> {
    for done in 1..=files {
        thread::sleep(Duration::from_millis(20));
        progress.send(&Progress { done, of: files })?;
    }
    Ok(format!("{files} files converted"))
}

fn main() -> Result<(), procbridge::Error> {
    let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().stream("convert", convert))?;
    let client = Client::connect(server.endpoint())?;

    let mut progress = client.stream::<Progress>("convert", &4)?;
    for step in &mut progress {
        let Progress { done, of } = step?;
        println!("{done} of {of}");
    }
    println!("the end: {}", progress.finish::<String>()?);

    // A caller that stops reading cancels the job: the next `send` in the method is an error, and `?` ends it.
    let first = client.stream::<Progress>("convert", &1_000_000)?.next();
    println!("given up after {first:?}");

    // A caller that asks for no stream gets the same items in one array.
    let all: Vec<Progress> = client.request("convert", &2)?;
    println!("all at once: {all:?}");
    Ok(())
}

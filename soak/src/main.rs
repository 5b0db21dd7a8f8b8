//! Hours of use in minutes: a server of either face under everything at once that callers do, good and bad ones.
//!
//! ```text
//! soak run FACE MINUTES                  the whole: servers and clients, then what is left is compared
//! soak serve FACE RECORD ENDPOINT..      a server, until its standard input closes; it writes down each call that it runs
//! soak call FACE ENDPOINT NUMBER         calls, the first with this number, until it is killed
//! ```
//!
//! FACE is `blocking` or `tokio`, of servers and clients alike. A surprise is a panic: the thread in which it happened
//! says what it saw, and the run fails in the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it stops at what must not be, and talks to who started it"
)]

mod caller;
mod crowd;
mod dice;
mod mixed;
mod process;
mod rude;
mod server;
mod tally;

use std::alloc::System;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use procbridge::ClientConfig;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::caller::Face;
use crate::crowd::{Crowd, Work};
use crate::process::Process;

/// Memory on the heap is exact where resident memory is not: allocators keep some.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["run", face, minutes] => run(face.parse().unwrap(), minutes.parse().unwrap()),
        ["serve", face, record, ref endpoints @ ..] => {
            server::serve(face.parse().unwrap(), Path::new(record), endpoints);
            ExitCode::SUCCESS
        }
        ["call", face, endpoint, number] => {
            call(face.parse().unwrap(), endpoint, number.parse().unwrap());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("soak: see the head of soak/src/main.rs");
            ExitCode::FAILURE
        }
    }
}

/// Runs one face for so many minutes.
fn run(face: Face, minutes: u64) -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let unix = format!("unix:{}/s.sock", dir.path().display());
    let mut server = Process::start(face, &record, &["127.0.0.1:0".into(), unix]);
    let mut crowd = Crowd::new(face, server.endpoints.clone());
    let time = Duration::from_secs(60 * minutes);

    // Memory of first use stays, and is no leak.
    crowd.work(time / 20);
    let start = server.at_rest();
    println!("{face}: at rest after {} s of work {start}", (time / 20).as_secs());
    crowd.work(time * 13 / 20);
    let end = server.at_rest();
    println!("{face}: at rest after {} s more {end}", (time * 13 / 20).as_secs());

    // Under the rest of the work the server is stopped, in an orderly way, and started again.
    let stops = 2 * minutes.max(1);
    let mut stopped = Vec::new();
    let part = time * 3 / 10 / u32::try_from(stops + 1).unwrap();
    for _ in 0..stops {
        crowd.work_on(part);
        stopped.push(server.restart());
    }
    crowd.work(part);
    let last = server.at_rest();
    let slowest = stopped.iter().max().unwrap();
    println!(
        "{face}: stopped and started {stops} times, the longest stop took {slowest:?}; the last server at rest {last}"
    );
    server.stop();

    let mut failures = crowd.failures;
    failures.extend(crowd.tally.check(&record));
    for figures in [end, last] {
        failures.extend(figures.grown_since(&start).map(|grown| format!("the server has {grown}")));
    }
    println!("{face}: {}", crowd.tally);
    for failure in &failures {
        println!("{face}: FAILED: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Calls until it is killed, or its parent is gone.
fn call(face: Face, endpoint: &str, number: u64) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    mixed::clients(face, &endpoint.parse().unwrap(), &ClientConfig::new(), 4, Work::alone(number));
}

//! The program whose costs are counted: one side of a call, alone in its process, or the core alone.
//!
//! ```text
//! probe serve FACE ENDPOINT                      prints "ready", serves until its standard input closes
//! probe call FACE STYLE ENDPOINT CALLS IN_FLIGHT prints the allocations of a call
//! probe both ENDPOINT CALLS IN_FLIGHT            both sides of the tokio face in one thread, on a session
//! probe core CALLS                               the same, of both sides in memory
//! ```
//!
//! FACE is `blocking` or `tokio`, STYLE is `session` or `classic`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the tests")]

mod blocking;
mod core;
mod heap;
mod settings;
mod tokio_face;

use std::process::ExitCode;

use crate::settings::{Calls, Result};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match *words {
        ["serve", "blocking", endpoint] => blocking::serve(endpoint),
        ["serve", "tokio", endpoint] => tokio_face::serve(endpoint),
        ["call", "blocking", style, endpoint, calls, "1"] => {
            blocking::call(&Calls::new(style, endpoint, calls, "1")?)
        }
        ["call", "tokio", style, endpoint, calls, in_flight] => {
            tokio_face::call(&Calls::new(style, endpoint, calls, in_flight)?)
        }
        ["both", endpoint, calls, in_flight] => {
            tokio_face::both(&Calls::new("session", endpoint, calls, in_flight)?)
        }
        ["core", calls] => core::call(calls.parse()?),
        _ => Err("see the head of counts/src/main.rs".into()),
    }
}

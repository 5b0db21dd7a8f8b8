//! Programs of the library for the abuse suite, each in a process of its own.
//!
//! ```text
//! abuse-peer serve FACE PATH [SETTING=VALUE..]         serves on the Unix socket PATH and a TCP port, until stdin closes
//! abuse-peer call FACE ENDPOINT CALLS MILLISECONDS     calls `echo` on one client, and prints how each call ended
//! abuse-peer subscribe FACE ENDPOINT MILLISECONDS      subscribes, and prints what came of it in that time
//! abuse-peer require FACE ENDPOINT MILLISECONDS        calls `echo` over a session only, with that limit
//! ```
//!
//! FACE is `blocking` or `tokio`. The servers have the methods of `procbridge serve --demo`, and some more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "it stops at what must not be, and talks to the suite"
)]

mod client;
mod methods;
mod server;
mod settings;

use std::time::Duration;

/// Which half of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Blocking,
    Tokio,
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["serve", name, path, ref settings @ ..] => {
            server::serve(face(name), path, settings::server(settings));
        }
        ["call", name, endpoint, calls, limit] => {
            client::call(face(name), endpoint, calls.parse().unwrap(), milliseconds(limit));
        }
        ["subscribe", name, endpoint, time] => {
            client::subscribe(face(name), endpoint, milliseconds(time));
        }
        ["require", name, endpoint, limit] => {
            client::require(face(name), endpoint, milliseconds(limit));
        }
        _ => panic!("see the head of abuse/peers/src/main.rs"),
    }
}

fn face(name: &str) -> Face {
    match name {
        "blocking" => Face::Blocking,
        "tokio" => Face::Tokio,
        _ => panic!("there is no face {name:?}"),
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

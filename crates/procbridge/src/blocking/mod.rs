//! The blocking face: sockets, threads and clocks around the core; no rule of the protocol is in here.

mod client;
mod exchange;
mod poller;
mod running;
mod server;
mod stream;

pub use client::{Client, RequestBuilder};
pub use server::{RunningServer, Server, ServerHandle};

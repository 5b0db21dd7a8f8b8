//! The blocking face: sockets, threads and clocks around the core; no rule of the protocol is in here.

mod acceptors;
mod client;
mod control;
mod exchange;
mod poller;
mod running;
mod server;
mod stream;

pub use client::{Client, RequestBuilder};
pub use control::ServerHandle;
pub use server::{RunningServer, Server};

//! The blocking server: its threads, and what they share.

mod acceptors;
mod connection;
mod event_loop;
mod in_flight;
mod server;
pub(super) mod session_threads;
mod shutdown;

pub use server::{RunningServer, Server};
pub use shutdown::ServerHandle;

//! The blocking server: its threads, and the state they share.

mod acceptors;
mod connection;
mod context;
mod event_loop;
mod event_loop_thread;
mod finish;
mod in_flight;
mod listening;
mod serve;
mod server;
mod session_table;
mod session_threads;
mod shutdown;

pub use server::{RunningServer, Server};
pub use shutdown::ServerHandle;

//! The blocking face: sockets, threads and clocks around the core; no rule of the protocol is in here.

mod acceptors;
mod builder;
mod calls;
mod client;
mod control;
mod exchange;
mod items;
mod keeper;
mod opening;
mod poller;
mod pool;
mod running;
mod server;
mod session;
mod sessions;
mod stream;
mod subscription;
mod waiting;

pub use builder::RequestBuilder;
pub use client::Client;
pub use control::ServerHandle;
pub use items::{ItemSink, Items};
pub use server::{RunningServer, Server};
pub use session::Session;
pub use subscription::Subscription;

//! The blocking face: sockets, threads and clocks around the core; no rule of the protocol is in here.

mod background;
mod client;
mod flow;
pub mod handler;
mod item_stream;
pub mod layers;
mod next;
mod open;
mod request_builder;
pub(crate) mod router;
mod server;
mod session;
mod subscription;
mod thread_pool;
mod transport;
mod wait;

pub use client::Client;
pub use item_stream::{ItemSink, Items};
pub use next::Next;
pub use request_builder::RequestBuilder;
pub use router::Router;
pub use server::{RunningServer, Server, ServerHandle};
pub use session::Session;
pub use subscription::Subscription;

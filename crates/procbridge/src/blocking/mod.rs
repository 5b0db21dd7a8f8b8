//! The blocking face: sockets, threads and clocks around the core. No rule of the protocol is in here.

mod background;
mod call_builder;
mod caller;
mod client;
mod flow;
pub mod handler;
mod inner;
mod item_sink;
mod item_stream;
mod keep_open;
pub mod layers;
pub(crate) mod next;
mod open;
pub(crate) mod router;
mod serve_call;
mod server;
mod session;
mod subscription;
mod thread_pool;
mod ticker;
mod transport;
mod wait;

pub use call_builder::CallBuilder;
pub use client::Client;
pub use item_sink::ItemSink;
pub use item_stream::Items;
pub use next::Next;
pub use router::Router;
pub use server::{RunningServer, Server, ServerHandle};
pub use session::Session;
pub use subscription::Subscription;

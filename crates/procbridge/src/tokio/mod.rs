//! The async face: the same names as at the root of this crate, with `.await`, on tokio.
//!
//! ```
//! use procbridge::tokio::{Client, Router, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), procbridge::Error> {
//! // A server: async functions by name. The argument is read from the JSON, the return value is the answer.
//! let router = Router::new()
//!     .method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() })
//!     .method("greet", |name: String| async move { format!("hello {name}") });
//! let server = Server::bind("127.0.0.1:0")?.spawn(router);
//!
//! // A client, in this process or in any other.
//! let client = Client::connect(server.endpoint()).await?;
//! let total: i64 = client.request("sum", &[1, 2, 3]).await?;
//! assert_eq!(total, 6);
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Types that do not wait are the same in both faces: [`Endpoint`](crate::Endpoint),
//! [`ClientConfig`](crate::ClientConfig), [`ServerConfig`](crate::ServerConfig), [`ReplyError`](crate::ReplyError),
//! [`Error`](crate::Error), [`Hub`](crate::Hub), [`Event`](crate::Event). Blocking functions can be served too: `from`
//! turns a [`procbridge::Router`](crate::Router) into a [`Router`] of this face.
//!
//! This module needs a tokio runtime of any flavour with I/O and time enabled, and panics outside one. Timeouts use the
//! clock of that runtime, which a test may stop with `tokio::time::pause`.

mod background;
mod begin_handler;
mod call;
mod call_builder;
mod call_future;
mod call_task;
mod caller;
mod client;
mod clock;
mod flow;
pub mod handler;
mod handler_speed;
mod handler_task;
mod inner;
mod item_sink;
mod item_stream;
pub mod layers;
mod next;
mod open;
mod router;
mod server;
mod session;
mod session_task;
mod subscription;

mod transport;

pub use call::Call;
pub use call_builder::CallBuilder;
pub use call_future::CallFuture;
pub use client::Client;
pub use item_sink::ItemSink;
pub use item_stream::Items;
pub use next::Next;
pub use router::Router;
pub use server::{RunningServer, Server, ServerHandle};
pub use session::Session;
pub use subscription::Subscription;

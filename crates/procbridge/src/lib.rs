//! The lightest way for two processes to talk JSON.
//!
//! A client sends a method's name and any JSON value. A function of the server answers with any JSON value or an error,
//! over TCP or a Unix-domain socket. The format is ProcBridge 1.1, which packages for Python, Node.js, Java, Swift and
//! C# share.
//!
//! ```
//! use procbridge::{Client, Router, Server};
//!
//! // A server: functions by name. Their arguments are read from JSON, and what they return is the answer.
//! let router = Router::new()
//!     .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
//!     .method("greet", |name: String| format!("hello {name}"));
//! let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
//!
//! // A client, in this process or in any other.
//! let client = Client::connect(server.endpoint())?;
//! let total: i64 = client.request("sum", &[1, 2, 3])?;
//! assert_eq!(total, 6);
//! # Ok::<(), procbridge::Error>(())
//! ```
//!
//! [`Client`] and [`Server`] block and need no async runtime. With the feature `tokio` the module `procbridge::tokio`
//! has the same names, with `.await`.
//!
//! Every wait has a timeout and every buffer a size limit; [`ClientConfig`] and [`ServerConfig`] name them with their
//! defaults. By default a server listens on loopback addresses only, and serves only its own user over Unix sockets.
//!
//! # Features
//!
//! - `tokio`: the async face. Off by default; the default has no async runtime among its dependencies.
//! - `schema`: [`Router`]`::schema` adds JSON Schemas of what methods take and return.
//! - `lz4`, `zstd`: compression that peers may use in sessions; [`ClientConfig::with_compression`] uses it.
//! - `anyhow`: handlers may return `anyhow::Result`.
//! - `tracing`: [`layers`]`::trace`, a span and an event for each call.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod classic;
mod client;
mod config;
mod endpoint;
mod error;
mod events;
mod json;
mod limits;
mod net;
mod peer;
mod reply_error;
mod service;
mod session;
mod telemetry;
#[cfg(feature = "tokio")]
pub mod tokio;
mod user;

pub use blocking::{
    CallBuilder, Client, ItemSink, Items, Next, Router, RunningServer, Server, ServerHandle, Session,
    Subscription, handler, layers,
};
#[doc(hidden)]
pub use client::retry::{Backoff, may_pass};
pub use config::client::{ClientConfig, SessionMode};
pub use config::server::ServerConfig;
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind, Outcome};
pub use events::event::{Event, Missed};
pub use events::hub::Hub;
pub use peer::{Credentials, Peer};
pub use procbridge_proto::{Codec, code};
pub use reply_error::ReplyError;
pub use service::call::Call;
#[doc(hidden)]
pub use service::form;
pub use service::reply::{IntoReply, IntoReplyError};

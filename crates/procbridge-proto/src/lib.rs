//! The ProcBridge protocol without I/O.
//!
//! Bytes go into a [`Connection`], events and bytes come out of it. There is no socket, clock, thread, lock, log
//! or `unsafe` in this crate: the `procbridge` crate moves the bytes, this one knows the rules. The rules are
//! those of `spec/procbridge-1.1.md`; the comments name them by their ids (`PB-HDR-1`).
//!
//! ```
//! use procbridge_proto::{Connection, Event, Limits, Packet, Version};
//!
//! // The caller's side: one packet is queued, its bytes are ready to be sent.
//! let limits = Limits::default();
//! let mut client = Connection::client(limits);
//! let request = Packet::request(Version::V1_1, Some("sum"), None).json_text("[1,2]")?;
//! client.call(request.finish(&limits)?)?;
//!
//! // The other side: the same bytes become an event.
//! let mut server = Connection::server(limits);
//! server.receive(client.transmit());
//! let Some(Event::Request { id, request }) = server.poll_event() else { panic!("no request") };
//! assert_eq!((request.method(), request.payload()), (Some("sum"), Some("[1,2]")));
//!
//! // And the answer goes back the same way.
//! server.reply(id, Packet::good(request.version()).json_text("3")?.finish(&limits)?)?;
//! client.receive(server.transmit());
//! let Some(Event::Response { response, .. }) = client.poll_event() else { panic!("no response") };
//! assert_eq!(response.good().and_then(|good| good.payload()), Some("3"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod connection;
mod decoder;
mod error;
mod header;
mod json;
mod limits;
mod message;
mod packet;

pub use connection::{CallId, Connection, Ending, Event};
pub use error::{Answer, Fault, Misuse, ProtocolError, code};
pub use header::{HEADER_LENGTH, Header, Status, Version};
pub use limits::Limits;
pub use message::{Bad, Good, Request, Response};
pub use packet::{Packet, PacketBuilder};

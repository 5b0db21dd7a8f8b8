//! The ProcBridge protocol without I/O.
//!
//! Bytes go into a [`Connection`], events and bytes come out of it. There is no socket, clock, thread, lock, log
//! or `unsafe` in this crate: the `procbridge` crate moves the bytes, this one knows the rules. The rules are
//! those of `spec/procbridge-1.1.md` and `spec/sessions.md`. The comments name them by their ids (`PB-HDR-1`).
//!
//! ```
//! use procbridge_proto::{Connection, Event, Limits, Packet, Version};
//!
//! // The caller's side queues one packet. Its bytes are ready to be sent.
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
//!
//! # Sessions
//!
//! A client offers a session with its first call, in two bytes that every classic server ignores. A server that
//! supports sessions accepts. The connection then stays open, and both sides make any number of calls. A session has
//! streams, cancellation, a keepalive and a graceful end. Large bodies go in pieces, so that small calls do not wait
//! for them. Bodies may be compressed with the features `lz4` and `zstd`.
//!
//! ```
//! use procbridge_proto::{Connection, Event, Limits, Packet, Settings, Version};
//!
//! let limits = Limits::default();
//! let packet = |builder: procbridge_proto::PacketBuilder| builder.finish(&limits);
//! let mut client = Connection::client(limits).with_session(Settings::new());
//! let mut server = Connection::server(limits).with_session(Settings::new().with_name("counter"));
//!
//! // Moves the bytes, as a face does with a socket.
//! fn carry(from: &mut Connection, to: &mut Connection) {
//!     while !from.transmit().is_empty() {
//!         to.receive(from.transmit());
//!         from.transmitted(from.transmit().len());
//!     }
//! }
//!
//! // The first call makes the offer. The server accepts at once, before it has an answer.
//! client.call(packet(Packet::request(Version::V1_1, Some("slow"), None))?)?;
//! carry(&mut client, &mut server);
//! carry(&mut server, &mut client);
//! assert_eq!(client.poll_event(), Some(Event::Session));
//! assert_eq!(client.peer().and_then(|peer| peer.name()), Some("counter"));
//!
//! // The second call does not wait for the first one. It accepts items.
//! let count = client.call(packet(Packet::request(Version::V1_1, Some("count"), None).stream())?)?;
//! carry(&mut client, &mut server);
//! while let Some(event) = server.poll_event() {
//!     match event {
//!         Event::Request { id, request } if request.wants_items() => {
//!             server.item(id, packet(Packet::item().json_text("1")?)?)?;
//!             server.item(id, packet(Packet::item().json_text("2")?)?)?;
//!             server.reply(id, packet(Packet::good(Version::V1_1))?)?;
//!         }
//!         other => println!("{other:?}"),
//!     }
//! }
//! carry(&mut server, &mut client);
//! let mut items = Vec::new();
//! while let Some(Event::Item { id, item }) = client.poll_event() {
//!     assert_eq!(id, count);
//!     items.push(item.payload().unwrap_or("null").to_owned());
//!     // Grants the server credit for further items.
//!     client.consumed(id, 1, item.size());
//! }
//! assert_eq!(items, ["1", "2"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod body;
mod call_table;
mod classic;
mod compression;
mod connection;
mod decoder;
mod error;
mod event;
mod event_queue;
mod header;
mod json;
mod limits;
mod message;
mod packet;
mod session;
mod settings;
mod unread;
mod wire;

pub use call_table::CallTable;
pub use compression::codec::{Codec, Codecs};
pub use connection::Connection;
pub use error::{Answer, Fault, Misuse, ProtocolError, code};
pub use event::{CallId, Ending, Event};
pub use header::Header;
pub use limits::Limits;
pub use message::{Bad, Good, Item, Request, Response};
#[doc(hidden)]
pub use message::{member, split_request};
pub use packet::{Envelope, Packet, PacketBuilder};
pub use settings::Settings;
pub use unread::{Unread, UnreadItem, UnreadRequest, UnreadResponse};
pub use wire::{HEADER_LENGTH, Status, Version, flag};

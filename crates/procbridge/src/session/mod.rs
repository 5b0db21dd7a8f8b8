//! Sessions: many calls on one connection, in both directions. Everything here is the same for both faces, which only
//! add how they wait (`spec/sessions.md`).
//!
//! A [`Link`] is one session. It reads and writes what can be read and written at once; whoever must wait leaves a
//! waker. [`Calling`] is a call that goes out on it, [`Work`](incoming_calls::Work) one that came in.

pub(crate) mod concurrency_limit;
#[cfg(feature = "tokio")]
pub(crate) mod driver;
pub(crate) mod idle_scan;
pub(crate) mod incoming_calls;
pub(crate) mod keepalive;
pub(crate) mod leader;
pub(crate) mod outgoing_calls;
#[cfg(feature = "tokio")]
pub(crate) mod read_buffer;
pub(crate) mod session;
pub(crate) mod spin;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod timers;
pub(crate) mod writer;

pub(crate) use outgoing_calls::{CallEnd, PendingCall};
pub(crate) use session::Session;

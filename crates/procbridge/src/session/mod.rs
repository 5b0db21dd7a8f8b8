//! Sessions: many calls on one connection, in both directions. Everything here is the same for both faces, which only
//! add how they wait (`spec/sessions.md`).
//!
//! A [`Session`] is one session. It reads and writes what can be read and written at once; whoever must wait leaves a
//! waker. [`PendingCall`] is a call that goes out on it, [`IncomingCall`](served_call::IncomingCall) one that came in.

pub(crate) mod call_slot;
pub(crate) mod call_state;
pub(crate) mod concurrency_limit;
pub(crate) mod context;
#[cfg(feature = "tokio")]
pub(crate) mod driver;
pub(crate) mod eviction;
pub(crate) mod idle_scan;
pub(crate) mod incoming_calls;
pub(crate) mod keepalive;
pub(crate) mod leader;
pub(crate) mod outgoing_calls;
#[cfg(feature = "tokio")]
pub(crate) mod read_buffer;
mod reader;
pub(crate) mod received;
mod reply_space;
pub(crate) mod served_call;
pub(crate) mod session;
pub(crate) mod spin;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod timers;
pub(crate) mod wait_queue;
pub(crate) mod waker;
pub(crate) mod writer;

pub(crate) use call_slot::CallEnd;
pub(crate) use outgoing_calls::PendingCall;
pub(crate) use session::Session;

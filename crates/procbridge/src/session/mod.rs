//! Sessions: many calls on one connection, in both directions. Both faces share this module and add only how a thread
//! or task waits (`spec/sessions.md`).
//!
//! A [`Session`] reads and writes without blocking; a thread or task that must wait leaves a waker. [`PendingCall`] is
//! an outgoing call, [`IncomingCall`](served_call::IncomingCall) an incoming one.

pub(crate) mod call_slot;
pub(crate) mod call_state;
pub(crate) mod concurrency_limit;
pub(crate) mod context;
#[cfg(feature = "tokio")]
pub(crate) mod driver;
pub(crate) mod end;
pub(crate) mod eviction;
pub(crate) mod idle_scan;
pub(crate) mod incoming_calls;
pub(crate) mod keepalive;
pub(crate) mod leader;
pub(crate) mod outgoing_calls;
#[cfg(feature = "tokio")]
pub(crate) mod read_buffer;
mod reader;
pub(crate) mod reading;
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
pub(crate) mod writing;

pub(crate) use call_slot::CallEnd;
pub(crate) use outgoing_calls::PendingCall;
pub(crate) use session::Session;

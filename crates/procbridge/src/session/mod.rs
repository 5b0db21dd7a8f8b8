//! Sessions: many calls on one connection, in both directions. Everything here is the same for both faces, which only
//! add how they wait (`spec/sessions.md`).
//!
//! A [`Link`] is one session. It reads and writes what can be read and written at once; whoever must wait leaves a
//! waker. [`Calling`] is a call that goes out on it, [`Work`](serving::Work) one that came in.

pub(crate) mod beat;
pub(crate) mod calling;
pub(crate) mod current;
#[cfg(feature = "tokio")]
pub(crate) mod driven;
pub(crate) mod glance;
pub(crate) mod held;
pub(crate) mod hub;
pub(crate) mod link;
pub(crate) mod pulse;
pub(crate) mod retry;
#[cfg(feature = "tokio")]
pub(crate) mod room;
pub(crate) mod serving;
pub(crate) mod sink;
pub(crate) mod spin;
pub(crate) mod state;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod topics;
pub(crate) mod turn;
pub(crate) mod writing;

pub(crate) use calling::{Answer, Calling};
pub(crate) use link::Link;

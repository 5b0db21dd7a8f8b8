//! The outgoing calls of a session, and the slot of each: items and answer as they arrive, and how the call ended.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use procbridge_proto::{CallTable, Item, ProtocolError, Response, UnreadResponse};

use crate::error::Sent;
use crate::session::received::Received;
use crate::session::wait_queue::Queue;

/// The outgoing calls of a session.
pub(crate) struct Outgoing {
    pub(crate) calls: CallTable<Slot>,
    /// The deadlines of the calls, if a task ends those that are past theirs.
    pub(super) deadlines: Option<Box<Deadlines>>,
    /// Calls queued at the peer's concurrency limit.
    pub(super) queued: Option<Box<Queue>>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum CallEnd {
    Response(Response),
    /// The call was answered; the answer is to be read outside the session's lock.
    Unread(UnreadResponse),
    /// The call was answered, and the answer cannot be read.
    Failed(ProtocolError),
    /// The call was not run, and will not be.
    NotRun,
    /// The session ended first.
    Lost {
        sent: Sent,
    },
    /// This side cancelled the call at its deadline.
    Late {
        sent: Sent,
    },
    /// This side cancelled the call.
    Cancelled {
        sent: Sent,
    },
}

/// The items and the answer that have arrived for a call.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) answer: Option<CallEnd>,
    pub(crate) items: VecDeque<Received<Item>>,
    pub(crate) waker: Option<Waker>,
    /// Whether its caller may occupy the thread for long when it goes on: it sent something large, and may do so again.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "the async face reads it"))]
    pub(crate) is_large: bool,
    /// When the task that drives the session cancels the call, if that is left to it.
    pub(super) deadline: Option<Instant>,
}

/// The deadlines of calls that the task which drives the session ends.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// The earliest deadline of the calls.
    pub(super) calls: Option<Instant>,
    /// When that task checks its timers next, for any reason.
    #[cfg(feature = "tokio")]
    pub(super) planned: Option<Instant>,
}

impl Slot {
    /// Takes the waker of the caller that waits for this call.
    pub(crate) fn waiting(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

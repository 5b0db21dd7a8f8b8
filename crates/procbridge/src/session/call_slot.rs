//! What has come for a call of ours, and how it ended.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use procbridge_proto::{Item, ProtocolError, Response, UnreadResponse};

use crate::error::Sent;
use crate::session::received::Received;

/// How a call ended.
#[derive(Debug)]
pub(crate) enum CallEnd {
    Response(Response),
    /// It was answered; the answer is to be read outside the session's lock.
    Unread(UnreadResponse),
    /// It was answered, and the answer cannot be read.
    Failed(ProtocolError),
    /// It was not run, and will not be.
    NotRun,
    /// The session ended first.
    Lost {
        sent: Sent,
    },
    /// Its time was over first, so this side has given it up.
    Late {
        sent: Sent,
    },
    /// This side has given it up.
    Cancelled {
        sent: Sent,
    },
}

/// What has come for a call.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) answer: Option<CallEnd>,
    pub(crate) items: VecDeque<Received<Item>>,
    pub(crate) waker: Option<Waker>,
    /// Whether its caller may hold the thread for long once it goes on: it sent something large, and may do so again.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "the tasks of the async face look at it"))]
    pub(crate) is_large: bool,
    /// When the call is given up by whoever looks at the clock for the session, if that is left to it.
    pub(super) deadline: Option<Instant>,
}

/// The time of calls that end by themselves.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// When the next of them is to be looked at.
    pub(super) calls: Option<Instant>,
    /// When the task that drives the session looks at the clock next, whatever for.
    #[cfg(feature = "tokio")]
    pub(super) planned: Option<Instant>,
}

impl Slot {
    /// Whoever waits for this call, to be woken.
    pub(crate) fn waiting(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

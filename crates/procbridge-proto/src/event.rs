//! The events of a connection, which both faces act on.

use alloc::string::String;

use crate::error::ProtocolError;
use crate::message::{Item, Request, Response};
use crate::unread::{UnreadItem, UnreadRequest, UnreadResponse};

/// The id of one call on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(crate) u32);

/// An event of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A call came in; answer it with [`Connection::reply`](crate::Connection::reply).
    Request {
        /// The call.
        id: CallId,
        /// The request.
        request: Request,
    },
    /// A compressed or large call came in, and the [limits](crate::Limits::with_requests_unread) leave it unread. Read
    /// it and answer it as any other. If it cannot be read, send the [answer](ProtocolError::answer) of the error.
    Unread {
        /// The call.
        id: CallId,
        /// The unread request.
        request: UnreadRequest,
    },
    /// A call was answered.
    Response {
        /// The call.
        id: CallId,
        /// The answer.
        response: Response,
    },
    /// A compressed or large answer came, and the [limits](crate::Limits::with_answers_unread) leave it unread. If it
    /// cannot be read, the call has ended with that error.
    UnreadResponse {
        /// The call.
        id: CallId,
        /// The unread answer.
        response: UnreadResponse,
    },
    /// An outgoing call ended without an answer that can be read.
    Failed {
        /// The call.
        id: CallId,
        /// The error in the answer, or in an item before it.
        error: ProtocolError,
    },
    /// One element of a streamed result came. Call [`Connection::consumed`](crate::Connection::consumed) once the
    /// program has taken it.
    Item {
        /// The call.
        id: CallId,
        /// The element.
        item: Item,
    },
    /// A compressed or large item came, and the [limits](crate::Limits::with_answers_unread) leave it unread. Once read
    /// it is as any other. If it cannot be read, [cancel](crate::Connection::cancel) its call.
    UnreadItem {
        /// The call.
        id: CallId,
        /// The unread item.
        item: UnreadItem,
    },
    /// The connection has become a session, and [`Connection::peer`](crate::Connection::peer) is known. For a client
    /// this comes before any event of its first call.
    Session,
    /// The peer cancelled its call. The call must still be answered.
    Cancelled {
        /// The call.
        id: CallId,
    },
    /// An incoming call has credit for items again.
    Credit {
        /// The call.
        id: CallId,
    },
    /// An outgoing call ended and did not run. It was withdrawn before any of it was written, because it was cancelled
    /// or the session is over. Or the peer's GOODBYE excludes it.
    NotRun {
        /// The call.
        id: CallId,
    },
    /// The peer takes and makes no more calls. The calls in flight go on.
    Goodbye {
        /// The reason, for people.
        reason: String,
    },
    /// The peer answered a [`Connection::ping`](crate::Connection::ping).
    Pong,
    /// The connection is over. This is the last event, and it comes once. Without an error it means that the peer
    /// closed before it sent a byte. The answer to an error, if it has one, is queued already.
    Closed {
        /// The error, if the end was not orderly.
        error: Option<ProtocolError>,
    },
}

/// The way to close a connection once everything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Close at once: the peer has sent everything.
    Close,
    /// Stop writing, read and discard within a bound, then close. The peer may still be sending, and closing at once
    /// would destroy the answer on its way (PB-CON-*).
    Linger,
}

impl CallId {
    /// Returns the number, as it stands on the wire of a session. It is 1 on a classic connection.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl Event {
    /// Returns the bytes of a request's body, 0 for other events.
    pub(crate) fn request_bytes(&self) -> u64 {
        match self {
            Self::Request { request, .. } => request.size() as u64,
            Self::Unread { request, .. } => request.arrived() as u64,
            _ => 0,
        }
    }

    /// Returns the outgoing call that an answer or an item belongs to.
    pub(crate) fn answered_call(&self) -> Option<CallId> {
        match *self {
            Self::Response { id, .. }
            | Self::UnreadResponse { id, .. }
            | Self::Failed { id, .. }
            | Self::Item { id, .. }
            | Self::UnreadItem { id, .. } => Some(id),
            _ => None,
        }
    }
}

//! What happens on a connection, as both faces are told.

use alloc::string::String;

use crate::error::ProtocolError;
use crate::message::{Item, Request, Response};
use crate::unread::{UnreadItem, UnreadRequest, UnreadResponse};

/// Names one call on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(crate) u32);

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A call came in; answer it with [`Connection::reply`](crate::Connection::reply).
    Request {
        /// The call.
        id: CallId,
        /// What is asked.
        request: Request,
    },
    /// A call came in that is compressed or large, where the [limits](crate::Limits::with_requests_unread) ask for that.
    /// Answer it as any other once it is read; if it cannot be read, with what the error has for an
    /// [answer](ProtocolError::answer).
    Unread {
        /// The call.
        id: CallId,
        /// What arrived.
        request: UnreadRequest,
    },
    /// A call was answered.
    Response {
        /// The call.
        id: CallId,
        /// The answer.
        response: Response,
    },
    /// A call was answered, and the answer is compressed or large, where the [limits](crate::Limits::with_answers_unread) ask
    /// for that. If it cannot be read, the call came to its end with that error.
    UnreadResponse {
        /// The call.
        id: CallId,
        /// What arrived.
        response: UnreadResponse,
    },
    /// A call of ours came to its end without an answer that can be read.
    Failed {
        /// The call.
        id: CallId,
        /// What is wrong with the answer, or with an item before it.
        error: ProtocolError,
    },
    /// One element of a streamed result came; tell [`Connection::consumed`](crate::Connection::consumed) when it has been taken.
    Item {
        /// The call.
        id: CallId,
        /// The element.
        item: Item,
    },
    /// An item came that is compressed or large, where the [limits](crate::Limits::with_answers_unread) ask for that. Once it
    /// is read it is as any other; if it cannot be read, its call is to be [given up](crate::Connection::cancel).
    UnreadItem {
        /// The call.
        id: CallId,
        /// What arrived.
        item: UnreadItem,
    },
    /// The connection is a session from here on, and [`Connection::peer`](crate::Connection::peer) is known. For a client this comes before
    /// any event of its first call.
    Session,
    /// The peer wants its call to stop. It must still be answered.
    Cancelled {
        /// The call.
        id: CallId,
    },
    /// Items may be sent again for a call of the peer.
    Credit {
        /// The call.
        id: CallId,
    },
    /// A call of ours came to its end and was not run: it was taken back before any of it was written, because it was
    /// given up or the session is over, or the peer's goodbye says so.
    NotRun {
        /// The call.
        id: CallId,
    },
    /// The peer takes and makes no more calls. Those in flight go on.
    Goodbye {
        /// Why, for people.
        reason: String,
    },
    /// The peer answered a [`Connection::ping`](crate::Connection::ping).
    Pong,
    /// The connection is over. This is the last event, and it comes once. Without an error it means that the peer
    /// closed before it sent a byte. With one, the answer to it, if there is one, is queued already.
    Closed {
        /// Why, if it was not orderly.
        error: Option<ProtocolError>,
    },
}

/// How a connection is to be closed once everything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Close at once: the peer has sent what it had to send.
    Close,
    /// The peer may still be sending, and closing now would destroy the answer on its way (PB-CON-*): stop
    /// writing, read and discard within a bound, then close.
    Linger,
}

impl CallId {
    /// The number, as it stands on the wire of a session; 1 on a classic connection.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl Event {
    /// Returns the bytes of the request that came, 0 for other events.
    pub(crate) fn request_bytes(&self) -> u64 {
        match self {
            Self::Request { request, .. } => request.size() as u64,
            Self::Unread { request, .. } => request.arrived() as u64,
            _ => 0,
        }
    }

    /// The call of ours that an answer or an item is for.
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

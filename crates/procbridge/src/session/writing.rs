//! The part of a session for writing: whether the socket is full, and which tasks and threads wait until it is not.

use std::task::Waker;
use std::time::Instant;

use crate::session::end::End;

/// The writing of a session.
#[derive(Default)]
pub(crate) struct Writing {
    /// Since when the socket has been full.
    pub(super) blocked: Option<Instant>,
    /// Woken when the socket is full and no thread may be waiting for it.
    pub(super) blocked_waker: Option<Waker>,
    /// Woken when nothing that is queued waits for the socket any longer.
    pub(super) written_wakers: Vec<Waker>,
    /// Whether the send queue was so long that producers had to wait (backpressure).
    pub(super) is_backpressured: bool,
    /// Whether a flush was left to the task that drives the session, or to a promoted follower.
    pub(super) is_flush_pending: bool,
    /// Whether the socket buffers were enlarged for a large message.
    pub(super) has_large_buffers: bool,
    /// Why nothing more can be written.
    pub(super) write_error: Option<Box<End>>,
    /// Bytes that the socket has taken.
    pub(super) bytes_taken: u64,
    /// Since when the answers of this peer exceed its share, and `bytes_taken` at that time.
    pub(super) over_share: Option<(Instant, u64)>,
}

/// How far a flush got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    /// The socket is full.
    Blocked,
}

//! The part of a session for reading: which thread or task reads, into which buffer, and how far it has got.

#[cfg(feature = "tokio")]
use std::time::Instant;

use crate::limits::receive_rate::ReceiveRate;

/// The reading of a session.
pub(crate) struct Reading {
    /// Whether a thread or task reads.
    pub(super) reader: Reader,
    /// Whether one of many callers was promoted and has not become the leader yet. Other callers leave both reading and
    /// writing to it: one write sends what many of them queue.
    pub(super) is_leader_promoted: bool,
    /// Whether the leader is waking others, and will write before it reads again.
    pub(super) is_reader_waking: bool,
    /// Whether the connection may own a read buffer.
    pub(super) has_buffer: bool,
    /// Whether the connection reads into the [shared buffer](crate::session::read_buffer) of this thread.
    #[cfg(feature = "tokio")]
    pub(super) has_shared_buffer: bool,
    /// Whether packets in that buffer wait for a permit of the concurrency limit.
    #[cfg(feature = "tokio")]
    pub(super) receive_gate: ReceiveGate,
    /// Whether there may be packets that have not been handed out.
    pub(super) has_undispatched: bool,
    /// How many bytes the last read brought; some of them may not have been handed out.
    pub(super) arrived: usize,
    /// The receive rate of a message that has begun to arrive, if there is one.
    pub(super) receive_rate: Option<Box<ReceiveRate>>,
}

/// Which kind of reader a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    None,
    Thread,
    /// A task drives the session and always reads for all.
    Task,
}

/// Whether packets wait for an incoming call to end when the concurrency limit is reached.
///
/// Short calls end at once, and a one-way call beyond the limit would be dropped needlessly. Longer calls are not
/// waited for.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiveGate {
    Open,
    ClosedUntil(Instant),
    /// The wait is over, and no call has ended since.
    Passed,
}

impl Reading {
    /// Returns the reading of a new session, with the buffer of its connection.
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            is_leader_promoted: false,
            is_reader_waking: false,
            has_buffer: true,
            #[cfg(feature = "tokio")]
            has_shared_buffer: false,
            #[cfg(feature = "tokio")]
            receive_gate: ReceiveGate::Open,
            has_undispatched: false,
            arrived: 0,
            receive_rate: None,
        }
    }
}

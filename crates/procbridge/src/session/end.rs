//! Why a session ended.

use std::io;

use procbridge_proto::ProtocolError;

/// Why a session ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The session was closed in order.
    Closed,
    /// The connection failed.
    Io(io::ErrorKind, String),
    /// The peer broke a rule.
    Protocol(ProtocolError),
    /// The peer did not answer keepalive pings.
    Silent,
    /// The peer read nothing of what was sent to it.
    Stalled,
}

impl End {
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Io(error.kind(), crate::error::plain(error))
    }
}

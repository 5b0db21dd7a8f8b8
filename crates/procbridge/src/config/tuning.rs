//! Constants of behaviour that both faces share, each with its reason.

use std::time::Duration;

/// Time after which a client reads a session before it calls on it: a GOODBYE may have arrived meanwhile.
pub(crate) const STALE: Duration = Duration::from_secs(1);
/// Reads of a stale session before a call: each takes one buffer, and a peer that floods must not hold up the call.
pub(crate) const STALE_READS: usize = 64;
/// Interval in which a server checks whether the caller of a classic call has closed its connection.
pub(crate) const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Connections that a shutdown accepts from the backlog: as many as a backlog can have.
pub(crate) const MAX_BACKLOG: usize = u16::MAX as usize;
/// Time that a server which has ended grants to flush its last answers.
pub(crate) const FLUSH_GRACE: Duration = Duration::from_secs(1);
/// The reason in the GOODBYE of a server that shuts down.
pub(crate) const STOPPING: &str = "the server is stopping";

//! The immutable part of a session, which its parts know instead of the session.

use std::sync::Arc;

use crate::limits::admission::Admission;
use crate::limits::permits::Account;
use crate::net::socket::Socket;
use crate::peer::Peer;
use crate::telemetry::log::LogClass;

/// The immutable part of a session.
pub(crate) struct SessionContext {
    pub(super) socket: Arc<dyn Socket>,
    pub(crate) peer: Peer,
    /// The account of the peer in the server's limits.
    pub(crate) account: Arc<Account>,
    /// The limits for incoming calls.
    pub(crate) admission: Arc<Admission>,
}

impl SessionContext {
    pub(super) fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// Counts and logs one-way calls that were dropped at a limit: their callers get no answer.
    pub(super) fn drop_one_way(&self, calls: u64) {
        self.admission.stats.dropped(calls);
        let peer = &self.peer;
        self.admission.log.write(LogClass::Refused, || {
            format!("{peer}: {calls} one-way calls dropped, as many are in flight as the limits allow")
        });
    }
}

//! What never changes about a session. Its parts know this, and not the session.

use std::sync::Arc;

use crate::limits::admission::Admission;
use crate::limits::permits::Account;
use crate::net::socket::Socket;
use crate::peer::Peer;
use crate::telemetry::log::LogClass;

/// What never changes about a session.
pub(crate) struct SessionContext {
    pub(super) socket: Arc<dyn Socket>,
    pub(crate) peer: Peer,
    /// What the session holds of a server's limits.
    pub(crate) account: Arc<Account>,
    /// The limits under which the peer's calls are served.
    pub(crate) admission: Arc<Admission>,
}

impl SessionContext {
    pub(super) fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// Counts one-way calls that were not run for lack of a place, and logs it: their callers do not hear of it.
    pub(super) fn drop_one_way(&self, calls: u64) {
        self.admission.stats.dropped(calls);
        let peer = &self.peer;
        self.admission.log.write(LogClass::Refused, || {
            format!("{peer}: {calls} one-way calls dropped, as many are in flight as the limits allow")
        });
    }
}

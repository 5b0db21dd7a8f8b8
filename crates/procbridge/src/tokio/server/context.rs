//! The state that the tasks of a server share.

use std::sync::Arc;

use ::tokio::sync::watch;

use crate::limits::admission::Admission;
use crate::tokio::router::Router;
use crate::tokio::server::shutdown::Shutdown;

/// The state that a server and its tasks share.
#[derive(Debug)]
pub(in crate::tokio) struct ServerContext {
    pub(in crate::tokio) admission: Arc<Admission>,
    pub(in crate::tokio) shutdown: Arc<Shutdown>,
    pub(in crate::tokio) router: Router,
    pub(in crate::tokio) work: watch::Sender<()>,
    pub(in crate::tokio) tasks: watch::Sender<()>,
}

/// A guard for which the server waits. No value is ever sent; the server waits until the last receiver is dropped.
pub(in crate::tokio) type TaskGuard = watch::Receiver<()>;

impl ServerContext {
    /// Returns a guard for which a stopping server waits, up to the drain timeout.
    pub(in crate::tokio) fn busy(&self) -> TaskGuard {
        self.work.subscribe()
    }

    /// Returns a guard for which an ending server waits.
    pub(in crate::tokio) fn alive(&self) -> TaskGuard {
        self.tasks.subscribe()
    }
}

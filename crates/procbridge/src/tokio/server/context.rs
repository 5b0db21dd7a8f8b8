//! What the tasks of a server share.

use std::sync::Arc;

use ::tokio::sync::watch;

use crate::limits::admission::Admission;
use crate::tokio::router::Router;
use crate::tokio::server::shutdown::Shutdown;

/// What a server and its tasks share.
#[derive(Debug)]
pub(in crate::tokio) struct ServerContext {
    pub(in crate::tokio) admission: Arc<Admission>,
    pub(in crate::tokio) control: Arc<Shutdown>,
    pub(in crate::tokio) router: Router,
    pub(in crate::tokio) work: watch::Sender<()>,
    pub(in crate::tokio) tasks: watch::Sender<()>,
}

/// Held by those who must be waited for. Nothing is ever sent; what counts is whether anybody is left to receive it.
pub(in crate::tokio) type TaskGuard = watch::Receiver<()>;

impl ServerContext {
    /// Has a server that stops wait for the holder, as long as calls have time.
    pub(in crate::tokio) fn busy(&self) -> TaskGuard {
        self.work.subscribe()
    }

    /// Has a server that ends wait for the holder.
    pub(in crate::tokio) fn alive(&self) -> TaskGuard {
        self.tasks.subscribe()
    }
}

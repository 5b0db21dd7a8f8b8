//! What a handler can know about the call that it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use procbridge_proto::{Request, Version};

use crate::config::ServerConfig;
use crate::peer::Peer;

/// A call that is being answered. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    request: Request,
    peer: Peer,
    deadline: Option<Instant>,
    cancelled: AtomicBool,
}

impl Call {
    /// A call whose time begins now. The earlier of the caller's own limit and the server's holds.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig) -> Self {
        let asked = request.timeout_ms().map(Duration::from_millis);
        let limit = [asked, config.handler_timeout].into_iter().flatten().min();
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        Self { inner: Arc::new(Inner { request, peer, deadline, cancelled: AtomicBool::new(false) }) }
    }

    /// The method's name; absent in a request that names none.
    pub fn method(&self) -> Option<&str> {
        self.inner.request.method()
    }

    /// The payload as JSON text, exactly as it was sent; absent if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        self.inner.request.payload()
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// When the caller will have been told that this took too long: the earlier of the caller's own limit and the
    /// server's [`handler_timeout`](crate::ServerConfig::with_handler_timeout). Absent if there is neither.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline
    }

    /// How long that is from now; zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more: the deadline has passed, or the server's time to stop is over.
    /// A handler that runs long should look from time to time, and return when it says so.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn version(&self) -> Version {
        self.inner.request.version()
    }
}

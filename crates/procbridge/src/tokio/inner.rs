//! The state that the clones of a client share.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::tokio::sync::Notify;

use crate::client::connections::Connections;
use crate::config::client::{ClientConfig, SessionMode};
use crate::endpoint::Endpoint;
use crate::limits::admission::Admission;
use crate::session::Session;
use crate::tokio::call_task;
use crate::tokio::clock;
use crate::tokio::router::Router;

/// The state that the clones of a client share.
pub(super) struct Inner {
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) current: Connections,
    pub(super) admission: Arc<Admission>,
    /// The methods that the server may call.
    pub(super) router: Mutex<Option<Arc<Router>>>,
    greeting: Mutex<Greeting>,
    /// Notified when the session may have changed or ended.
    pub(super) changed: Arc<Notify>,
}

/// The callback for each new session of a client that serves.
#[derive(Clone, Default)]
pub(super) struct Greeting(pub(super) Option<Arc<Greet>>);

type Greet = dyn Fn(Arc<Inner>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// In one line: a program prints its clients in its own errors.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = if self.session().is_some() { "open" } else { "none" };
        write!(f, "Client({}, session: {session})", self.endpoint)
    }
}

impl Inner {
    pub(super) fn new(endpoint: Endpoint, config: ClientConfig) -> Self {
        let mut admission = Admission::for_client(&config);
        admission.clock = clock::now;
        admission.discard = call_task::discard;
        let admission = Arc::new(admission);
        let current = Connections::new(config.max_connecting);
        let (router, greeting) = (Mutex::default(), Mutex::default());
        Self { endpoint, config, current, admission, router, greeting, changed: Arc::default() }
    }

    /// Returns the session of the last call, which may have ended.
    pub(super) fn last_session(&self) -> Option<Arc<Session>> {
        if self.config.sessions == SessionMode::Off { None } else { self.current.last_session() }
    }

    /// Runs the callback for a new session.
    pub(super) async fn greet(self: &Arc<Self>) {
        let greeting = self.greeting().clone();
        if let Greeting(Some(greet)) = greeting {
            greet(self.clone()).await;
        }
    }

    pub(super) fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current session, if one is open.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.current.session()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Arc<Router>>> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.current.leave();
        self.changed.notify_waiters();
    }
}

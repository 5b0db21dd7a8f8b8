//! The state that the clones of a client share.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::blocking::keep_open::KeepOpen;
use crate::blocking::router::Router;
use crate::client::connections::Connections;
use crate::config::client::ClientConfig;
use crate::endpoint::Endpoint;
use crate::limits::admission::Admission;
use crate::session::Session;

/// The state that the clones of a client share.
pub(super) struct Inner {
    pub(super) me: Weak<Inner>,
    pub(super) endpoint: Endpoint,
    pub(super) config: ClientConfig,
    pub(super) current: Connections,
    pub(super) admission: Arc<Admission>,
    /// The methods that the server may call.
    router: Mutex<Option<Arc<Router>>>,
    greeting: Mutex<Greeting>,
    /// The state of the thread that keeps a session open, if this client serves.
    pub(super) keep_open: Arc<KeepOpen>,
}

/// The callback for each new session of a client that serves.
#[derive(Clone, Default)]
pub(super) struct Greeting(pub(super) Option<Arc<Greet>>);

type Greet = dyn Fn(Arc<Inner>) + Send + Sync;

/// In one line: a program prints its clients in its own errors.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = if self.session().is_some() { "open" } else { "none" };
        write!(f, "Client({}, session: {session})", self.endpoint)
    }
}

impl Inner {
    pub(super) fn new(endpoint: Endpoint, config: ClientConfig) -> Arc<Self> {
        let admission = Arc::new(Admission::for_client(&config));
        let current = Connections::new(config.max_connecting);
        let (router, greeting, keep_open) = (Mutex::default(), Mutex::default(), Arc::default());
        Arc::new_cyclic(|me| {
            let me = me.clone();
            Self { me, endpoint, config, current, admission, router, greeting, keep_open }
        })
    }

    /// Whether the server may call this client.
    pub(super) fn is_serving(&self) -> bool {
        self.router().is_some()
    }

    /// Returns the methods that the server may call, if this client serves.
    pub(super) fn router(&self) -> MutexGuard<'_, Option<Arc<Router>>> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the callback for a new session.
    pub(super) fn greet(&self) {
        let greeting = self.greeting().clone();
        if let (Greeting(Some(greet)), Some(inner)) = (greeting, self.me.upgrade()) {
            greet(inner);
        }
    }

    pub(super) fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current session, if one is open.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.current.session()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.current.leave();
        self.keep_open.end();
    }
}

//! Methods by name, async ones and blocking ones.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::budget::Share;
use crate::call::Call;
use crate::config::ServerConfig;
use crate::handler::{Reply, payload};
use crate::refusal::Refusal;
use crate::router::{BoxedHandler, Routes, reply};
use crate::tokio::handler::Handler;
use crate::tokio::running::{Running, Work};

/// The methods of a server.
///
/// Names are case-sensitive and may hold anything; those that begin with `$/` belong to the protocol. A later
/// registration of a name replaces the earlier one. Without a fallback, an unknown method is answered with the
/// code `unknown_method`.
///
/// ```
/// use procbridge::tokio::Router;
/// use procbridge::{Call, Refusal};
/// use serde_json::Value;
///
/// async fn add((a, b): (i64, i64)) -> i64 {
///     a + b
/// }
///
/// let router = Router::new()
///     .method("add", add)
///     .method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() })
///     .method("whoami", |call: Call| async move { call.peer().to_string() })
///     .fallback(|call: Call, payload: Value| async move { Err(Refusal::unknown_method(call.method())) });
/// ```
///
/// A router of blocking functions is taken over as it is. Each of their calls runs on a thread for blocking work, of
/// which a runtime has 512 by default:
///
/// ```
/// let blocking = procbridge::Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
/// let router = procbridge::tokio::Router::from(blocking).method("seven", || async { 7 });
/// ```
///
/// A blocking function cannot be stopped from outside. When its time is over, [`Call::is_cancelled`] tells it so; until
/// it ends it is counted by [`ServerHandle::leaked_handlers`](crate::tokio::ServerHandle::leaked_handlers), and its
/// result is dropped. A runtime that is shut down waits for it.
#[derive(Clone, Default)]
pub struct Router {
    routes: Routes<Route>,
}

enum Route {
    Task(Box<dyn Fn(Call, Reply) -> Work + Send + Sync>),
    Thread(Arc<BoxedHandler>),
}

impl Router {
    /// A router without methods.
    pub fn new() -> Self {
        Self::default()
    }

    /// A router that gives every call to one function, as the other languages' servers do: the method's name, absent
    /// if the request has none, and the payload.
    ///
    /// ```
    /// use procbridge::Refusal;
    /// use procbridge::tokio::Router;
    /// use serde_json::Value;
    ///
    /// let router = Router::delegate(|method: Option<String>, payload: Value| async move {
    ///     match method.as_deref() {
    ///         Some("echo") => Ok(payload),
    ///         other => Err(Refusal::unknown_method(other)),
    ///     }
    /// });
    /// ```
    pub fn delegate<F, T, R>(delegate: F) -> Self
    where
        F: Fn(Option<String>, Value) -> T + Send + Sync + 'static,
        T: Future<Output = R> + Send + 'static,
        R: Serialize,
    {
        let mut router = Self::new();
        router.routes.set_fallback(Route::task(move |call, reply| {
            let method = call.method().map(str::to_string);
            let handled = payload(&call).map(|payload| delegate(method, payload));
            Box::pin(async move { reply.write(&handled?.await) })
        }));
        router
    }

    /// Adds a method, see [`Handler`] for the functions that will do.
    #[must_use]
    pub fn method<Args>(mut self, name: impl Into<String>, handler: impl Handler<Args>) -> Self {
        let route = Route::task(move |call, reply| Box::pin(handler.handle(call, reply)));
        self.routes.insert(name.into(), route);
        self
    }

    /// Answers all calls that have no method here, those that name none included. Payload and result are of one type:
    /// a `Value`, or `Box<RawValue>` for JSON text exactly as it was sent.
    #[must_use]
    pub fn fallback<F, A, T>(mut self, handler: F) -> Self
    where
        F: Fn(Call, T) -> A + Send + Sync + 'static,
        A: Future<Output = Result<T, Refusal>> + Send + 'static,
        T: DeserializeOwned + Serialize + 'static,
    {
        self.routes.set_fallback(Route::task(move |call, reply| {
            let handled = payload(&call).map(|payload| handler(call, payload));
            Box::pin(async move { reply.write(&handled?.await?) })
        }));
        self
    }

    /// Begins to answer `call`. `slot` is given back when the handler has ended.
    pub(super) fn start(
        &self,
        call: &Call,
        config: &ServerConfig,
        slot: Share,
        leaked: &Arc<AtomicUsize>,
    ) -> Result<Running, Refusal> {
        let route = self.routes.find(call).ok_or_else(|| Refusal::unknown_method(call.method()))?;
        let reply = reply(call, config);
        match &**route {
            Route::Task(handler) => Running::task(call, slot, || handler(call.clone(), reply)),
            Route::Thread(handler) => {
                let handler = handler.clone();
                Running::thread(call, slot, leaked, move |call| handler(call, reply))
            }
        }
    }
}

impl Route {
    fn task(handler: impl Fn(Call, Reply) -> Work + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self::Task(Box::new(handler)))
    }
}

/// Each function of the blocking router runs on a thread for blocking work.
impl From<crate::Router> for Router {
    fn from(router: crate::Router) -> Self {
        let thread = |handler| Arc::new(Route::Thread(handler));
        let Routes { methods, fallback } = router.routes;
        let methods = methods.into_iter().map(|(name, handler)| (name, thread(handler))).collect();
        Self { routes: Routes { methods, fallback: fallback.map(thread) } }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("methods", &self.routes.names()).finish_non_exhaustive()
    }
}

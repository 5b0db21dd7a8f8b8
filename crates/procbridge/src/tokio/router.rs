//! Finds methods by name, async and blocking ones.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::events::hub::Hub;
use crate::limits::admission::Admission;
use crate::limits::permits::Permit;
use crate::reply_error::ReplyError;
use crate::service::arguments::payload;
use crate::service::builtin;
use crate::service::dispatch::{authorized, good_reply};
use crate::service::reply::{IntoReply, Reply};
use crate::service::routes::{Kind, Routes};
use crate::tokio::begin_handler::{HandlerStart, InlineStart};
use crate::tokio::call::Call;
use crate::tokio::handler::{Handler, StreamHandler};
use crate::tokio::handler_task::{CallGuard, GuardedFuture, Guarding, HandlerTask, Work};
use crate::tokio::item_sink::ItemSink;
use crate::tokio::next::{BoxedLayer, Next};
use crate::tokio::next::{Route, Run};

/// The methods of a server.
///
/// Method names are case-sensitive and may contain any text; names that begin with `$/` belong to the protocol. A later
/// registration of a name replaces the earlier one. Without a fallback, an unknown method is answered with the code
/// `unknown_method`.
///
/// ```
/// use procbridge::ReplyError;
/// use procbridge::tokio::{Call, Router};
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
///     .fallback(|call: Call, payload: Value| async move { Err(ReplyError::unknown_method(call.method())) });
/// ```
///
/// A router of blocking functions can be converted as it is. Each of their calls runs on a thread for blocking work, of
/// which a runtime has 512 by default:
///
/// ```
/// let blocking = procbridge::Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
/// let router = procbridge::tokio::Router::from(blocking).method("seven", || async { 7 });
/// ```
///
/// A blocking function cannot be interrupted. At its deadline, [`Call::is_cancelled`](crate::Call::is_cancelled)
/// becomes true. Until it ends, [`ServerHandle::leaked_handlers`](crate::tokio::ServerHandle::leaked_handlers) counts
/// it; its result is dropped. A runtime that shuts down waits for it.
///
/// The layers of a blocking router still wrap its own methods, its unknown methods included, and run on the same
/// thread. Methods that are added here have the layers that are added here.
pub struct Router<S = ()> {
    pub(super) routes: Routes<Route>,
    /// The first layer is the outermost.
    layers: Arc<Vec<Arc<BoxedLayer>>>,
    state: Arc<S>,
}

/// How far a call has come on its way to a handler.
pub(super) enum Started<'r> {
    /// It is answered without a handler of the router.
    Answered(HandlerTask),
    Beginning(InlineStart<'r>),
}

impl Router {
    /// Returns a router without methods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a router whose methods share `state`: it is the first argument of those that ask for it. It is dropped
    /// with the last of these methods.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicI64, Ordering};
    /// use procbridge::tokio::Router;
    ///
    /// async fn add(total: Arc<AtomicI64>, n: i64) -> i64 {
    ///     total.fetch_add(n, Ordering::Relaxed) + n
    /// }
    ///
    /// let router = Router::with_state(AtomicI64::new(0))
    ///     .method("add", add)
    ///     .method("total", |total: Arc<AtomicI64>| async move { total.load(Ordering::Relaxed) });
    /// ```
    pub fn with_state<S: Send + Sync + 'static>(state: S) -> Router<S> {
        Router { routes: Routes::default(), layers: Arc::default(), state: Arc::new(state) }
    }

    /// Returns a router that passes every call to one function, as the other languages' servers do. The function gets
    /// the method's name, `None` if the request has none, and the payload.
    ///
    /// ```
    /// use procbridge::ReplyError;
    /// use procbridge::tokio::Router;
    /// use serde_json::Value;
    ///
    /// let router = Router::delegate(|method: Option<String>, payload: Value| async move {
    ///     match method.as_deref() {
    ///         Some("echo") => Ok(payload),
    ///         other => Err(ReplyError::unknown_method(other)),
    ///     }
    /// });
    /// ```
    pub fn delegate<F, T, Form>(delegate: F) -> Self
    where
        F: Fn(Option<String>, Value) -> T + Send + Sync + 'static,
        T: Future + Send + 'static,
        T::Output: IntoReply<Form>,
    {
        let mut router = Self::new();
        router.routes.set_fallback(Route::task(move |call, reply| {
            let method = call.method().map(str::to_string);
            let handled = payload(&call).map(|payload| delegate(method, payload));
            Box::pin(async move { handled?.await.write_to(reply) })
        }));
        router
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// Adds a method. [`Handler`] lists the functions that are accepted.
    #[must_use]
    pub fn method<Args>(mut self, name: impl Into<String>, handler: impl Handler<Args, S>) -> Self {
        let state = self.state.clone();
        let route = Route::task(move |call, reply| Box::pin(handler.handle(&state, call, reply)));
        self.routes.insert(name.into(), Kind::Method, route);
        self
    }

    /// Adds a method that answers with a stream of items. [`StreamHandler`] lists the functions that are accepted. A
    /// caller that does not ask for a stream, as those of the older packages, gets one array of the items.
    ///
    /// ```
    /// use procbridge::ReplyError;
    /// use procbridge::tokio::{Client, ItemSink, Router, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// let router = Router::new().stream("count", |n: u32, mut items: ItemSink| async move {
    ///     for i in 0..n {
    ///         items.send(&i).await?;
    ///     }
    ///     Ok::<(), ReplyError>(())
    /// });
    /// let server = Server::bind("127.0.0.1:0")?.spawn(router);
    ///
    /// let client = Client::connect(server.endpoint()).await?;
    /// let mut counted = client.stream::<u32>("count", &3).await?;
    /// let mut sum = 0;
    /// while let Some(n) = counted.next().await {
    ///     sum += n?;
    /// }
    /// assert_eq!(sum, 3);
    /// # server.shutdown().await
    /// # }
    /// ```
    #[must_use]
    pub fn stream<Args>(mut self, name: impl Into<String>, handler: impl StreamHandler<Args, S>) -> Self {
        let state = self.state.clone();
        let route = Route::task(move |call, reply| {
            let (items, collector) = ItemSink::new(&call);
            let handled = handler.handle(&state, call, items, reply);
            Box::pin(async move { collector.finish(handled.await?) })
        });
        self.routes.insert(name.into(), Kind::Stream, route);
        self
    }

    /// Adds the methods of another router, within the layers that they have there, and those of this one. They keep
    /// their state. Of two methods of one name the other router's stays. Its fallback and its events are added where
    /// this router has none.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use procbridge::tokio::Router;
    ///
    /// let numbers = Router::new().method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() });
    /// let texts = Router::with_state("hello ".to_string())
    ///     .method("greet", |greeting: Arc<String>, name: String| async move { format!("{greeting}{name}") });
    /// let router = numbers.merge(texts);
    /// ```
    #[must_use]
    pub fn merge<T: Send + Sync + 'static>(mut self, other: Router<T>) -> Self {
        self.routes.merge(other.into_routes());
        self
    }

    /// Adds the methods of another router as [`merge`](Self::merge) does, with `prefix` and a dot before their names.
    /// Its fallback and its events are not added.
    ///
    /// ```
    /// use procbridge::tokio::Router;
    ///
    /// let math = Router::new().method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() });
    /// // Its method is "math.sum".
    /// let router = Router::new().nest("math", math);
    /// ```
    #[must_use]
    pub fn nest<T: Send + Sync + 'static>(mut self, prefix: &str, other: Router<T>) -> Self {
        self.routes.nest(prefix, other.into_routes());
        self
    }

    /// Answers `$/subscribe` with the events of `hub`, see [`Hub`].
    ///
    /// ```
    /// use procbridge::Hub;
    /// use procbridge::tokio::{Client, Router, Server};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// let hub = Hub::new();
    /// let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().events(&hub));
    ///
    /// let client = Client::connect(server.endpoint()).await?;
    /// let mut builds = client.subscribe(["build.*"]).await?;
    /// hub.publish("build.done", &42)?;
    /// let event = builds.next().await.expect("an event")?;
    /// assert_eq!((event.topic(), event.payload::<u32>()?), ("build.done", 42));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(mut self, hub: &Hub) -> Self {
        let hub = hub.clone();
        self.routes.set_subscribe(Arc::new(move |call, config| hub.answer(call, config)));
        self
    }

    /// Answers all calls whose method is not registered here, and those without a method name. Payload and result have
    /// the same type: a `Value`, or `Box<RawValue>` for JSON text exactly as it was sent.
    #[must_use]
    pub fn fallback<F, A, T>(mut self, handler: F) -> Self
    where
        F: Fn(Call, T) -> A + Send + Sync + 'static,
        A: Future<Output = Result<T, ReplyError>> + Send + 'static,
        T: DeserializeOwned + Serialize + 'static,
    {
        self.routes.set_fallback(Route::task(move |call, reply| {
            let handled = payload(&call).map(|payload| handler(call, payload));
            Box::pin(async move { reply.write(&handled?.await?) })
        }));
        self
    }

    /// Sets a one-line description of the method `name`, for [`$/describe`](crate::ServerConfig::without_describe). It
    /// may be called before or after the method is added.
    ///
    /// ```
    /// use procbridge::tokio::Router;
    ///
    /// let router = Router::new().method("seven", || async { 7 }).describe("seven", "Answers 7.");
    /// ```
    #[must_use]
    pub fn describe(mut self, name: impl Into<String>, doc: impl Into<String>) -> Self {
        self.routes.describe(name.into(), doc.into());
        self
    }

    /// Sets the JSON Schemas of the payload and the result of the method `name`, for `$/describe`. `R` is the result
    /// without its `Result`, or the item of a streaming method. It may be called before or after the method is added.
    ///
    /// ```
    /// use procbridge::tokio::Router;
    ///
    /// let router = Router::new().method("seven", || async { 7 }).schema::<(), i32>("seven");
    /// ```
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema<T: schemars::JsonSchema, R: schemars::JsonSchema>(
        mut self,
        name: impl Into<String>,
    ) -> Self {
        self.routes.schema::<T, R>(name.into());
        self
    }

    /// Wraps an async function around all methods of this router, including methods added later, the fallback and
    /// unknown methods. The layer may inspect the call, refuse it, pass it on with [`Next::run`], and inspect the
    /// result. The layer added first is the outermost. A panic in a layer is answered as a handler's is. A layer is
    /// dropped at the call's deadline, as a handler is.
    ///
    /// The protocol's own methods (`$/ping` and so on) belong to the server, not to the router: layers do not wrap
    /// them. [`ServerConfig`](crate::ServerConfig) can switch them off.
    ///
    /// ```
    /// use procbridge::tokio::{Client, Router, Server, layers};
    /// use procbridge::{ReplyError, code};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// let router = Router::new()
    ///     .layer(layers::max_in_flight(8))
    ///     .layer(|call, next| async move {
    ///         let is_for_root = call.method().is_some_and(|method| method.starts_with("admin."));
    ///         if is_for_root && call.peer().uid() != Some(0) {
    ///             return Err(ReplyError::new("only root may do this").with_code(code::DENIED));
    ///         }
    ///         next.run().await
    ///     })
    ///     .method("admin.reload", || async {});
    /// # let server = Server::bind("127.0.0.1:0")?.spawn(router);
    /// # let client = Client::connect(server.endpoint()).await?;
    /// # let refused = client.request::<()>("admin.reload", &()).await.unwrap_err();
    /// # assert_eq!(refused.to_string(), "only root may do this");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer<F, T>(mut self, layer: F) -> Self
    where
        F: Fn(Call, Next) -> T + Send + Sync + 'static,
        T: Future<Output = Result<Reply, ReplyError>> + Send + 'static,
    {
        let boxed = move |call, next| -> Work { Box::pin(layer(call, next)) };
        Arc::make_mut(&mut self.layers).push(Arc::new(boxed));
        self
    }

    /// Returns the router for a server, which needs no state: its methods have it.
    pub(crate) fn without_state(self) -> Router {
        Router { routes: self.routes, layers: self.layers, state: Arc::default() }
    }

    /// Returns the routes with the layers around each of them.
    fn into_routes(self) -> Routes<Route> {
        let layers = self.layers;
        if layers.is_empty() { self.routes } else { self.routes.map(|route| route.within(&layers)) }
    }
}

impl Router {
    /// Begins to answer `call`. The permit `slot` is released when the handler has ended.
    pub(super) fn start(
        &self,
        call: crate::Call,
        admission: &Admission,
        slot: Option<Permit>,
        began: Instant,
    ) -> Result<HandlerTask, ReplyError> {
        match self.prepare(call, admission, slot, began)? {
            Started::Answered(handler) => Ok(handler),
            Started::Beginning(beginning) => beginning.begin(),
        }
    }

    /// Does the same, but does not begin the handler.
    pub(super) fn prepare<'r>(
        &'r self,
        call: crate::Call,
        admission: &'r Admission,
        slot: Option<Permit>,
        began: Instant,
    ) -> Result<Started<'r>, ReplyError> {
        let Admission { config, stats, leaked, .. } = admission;
        authorized(&call, config)?;
        let reply = good_reply(&call, config);
        if let Some(method) = builtin::method(&call, config) {
            let handled = method.answer(&call, reply, config, stats, &self.routes);
            let work = GuardedFuture::begin(|| Box::pin(std::future::ready(handled)))?;
            let guard = Guarding::Alone(CallGuard { _slot: slot, measured: None });
            return Ok(Started::Answered(HandlerTask::new(call, guard, work)));
        }
        let guard = CallGuard { _slot: slot, measured: Some(stats.begin_at(call.method(), began)) };
        let route = self.routes.find(&call);
        Ok(Started::Beginning(HandlerStart { call, reply, guard, route, layers: &self.layers, leaked }))
    }
}

/// Each function of the blocking router runs on a thread for blocking work, within that router's layers.
impl<S: Send + Sync + 'static> From<crate::Router<S>> for Router {
    fn from(mut router: crate::Router<S>) -> Self {
        if !router.layers.is_empty() && !router.routes.has_fallback() {
            router.routes.set_fallback(Arc::new(|call: &crate::Call, _: Reply| {
                Err(ReplyError::unknown_method(call.method()))
            }));
        }
        let routes = router.into_routes().map(|handler| Route::of(Run::Thread(handler)));
        Self { routes, ..Self::default() }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self { routes: Routes::default(), layers: Arc::default(), state: Arc::default() }
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self { routes: self.routes.clone(), layers: self.layers.clone(), state: self.state.clone() }
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("methods", &self.routes.names()).finish_non_exhaustive()
    }
}

//! Finds methods by name, and answers every call whatever its handler does.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use procbridge_proto::Packet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::blocking::handler::{Handler, StreamHandler};
use crate::blocking::item_sink::ItemSink;
use crate::blocking::next::{BoxedHandler, BoxedLayer, Next};
use crate::config::server::ServerConfig;
use crate::events::hub::Hub;
use crate::reply_error::ReplyError;
use crate::service::arguments::payload;
use crate::service::builtin;
use crate::service::call::Call;
use crate::service::dispatch::{authorized, finish, good_reply};
use crate::service::reply::{IntoReply, Reply};
use crate::service::routes::{Kind, Routes};
use crate::telemetry::stats::Stats;
use crate::telemetry::trace_context;

/// The methods of a server.
///
/// Method names are case-sensitive and may contain any text; names that begin with `$/` belong to the protocol. A later
/// registration of a name replaces the earlier one. Without a fallback, an unknown method is answered with the code
/// `unknown_method`.
///
/// ```
/// use procbridge::{Call, ReplyError, Router};
/// use serde_json::Value;
///
/// let router = Router::new()
///     .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
///     .method("add", |(a, b): (i64, i64)| a + b)
///     .method("whoami", |call: &Call| call.peer().to_string())
///     .fallback(|call, payload: Value| Err(ReplyError::unknown_method(call.method())));
/// ```
pub struct Router<S = ()> {
    pub(crate) routes: Routes<BoxedHandler>,
    /// The first layer is the outermost.
    pub(crate) layers: Vec<Arc<BoxedLayer>>,
    state: Arc<S>,
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
    /// use std::sync::atomic::{AtomicI64, Ordering};
    /// use procbridge::{Client, Router, Server};
    ///
    /// struct Counter {
    ///     total: AtomicI64,
    /// }
    ///
    /// impl Counter {
    ///     fn add(&self, n: i64) -> i64 {
    ///         self.total.fetch_add(n, Ordering::Relaxed) + n
    ///     }
    /// }
    ///
    /// let router = Router::with_state(Counter { total: AtomicI64::new(0) })
    ///     .method("add", Counter::add)
    ///     .method("total", |counter: &Counter| counter.total.load(Ordering::Relaxed));
    /// let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    ///
    /// let client = Client::connect(server.endpoint())?;
    /// client.request::<i64>("add", &5)?;
    /// assert_eq!(client.request::<i64>("total", &())?, 5);
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    pub fn with_state<S: Send + Sync + 'static>(state: S) -> Router<S> {
        Router { routes: Routes::default(), layers: Vec::new(), state: Arc::new(state) }
    }

    /// Returns a router that passes every call to one function, as the other languages' servers do. The function gets
    /// the method's name, `None` if the request has none, and the payload.
    ///
    /// ```
    /// use procbridge::{ReplyError, Router};
    /// use serde_json::Value;
    ///
    /// let router = Router::delegate(|method: Option<&str>, payload: Value| match method {
    ///     Some("echo") => Ok(payload),
    ///     _ => Err(ReplyError::unknown_method(method)),
    /// });
    /// ```
    pub fn delegate<F, R, Form>(delegate: F) -> Self
    where
        F: Fn(Option<&str>, Value) -> R + Send + Sync + 'static,
        R: IntoReply<Form>,
    {
        let mut router = Self::new();
        router.routes.set_fallback(Arc::new(move |call: &Call, reply: Reply| {
            delegate(call.method(), payload(call)?).write_to(reply)
        }));
        router
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// Adds a method. [`Handler`] lists the functions that are accepted.
    #[must_use]
    pub fn method<Args>(mut self, name: impl Into<String>, handler: impl Handler<Args, S>) -> Self {
        let state = self.state.clone();
        let handler = move |call: &Call, reply: Reply| handler.handle(&state, call, reply);
        self.routes.insert(name.into(), Kind::Method, Arc::new(handler));
        self
    }

    /// Adds a method that answers with a stream of items. [`StreamHandler`] lists the functions that are accepted. A
    /// caller that does not ask for a stream, as those of the older packages, gets one array of the items.
    ///
    /// ```
    /// use procbridge::{Client, ItemSink, Router, Server};
    ///
    /// let router = Router::new()
    ///     .stream("count", |n: u32, items: &mut ItemSink| (0..n).try_for_each(|i| items.send(&i)));
    /// let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
    ///
    /// let client = Client::connect(server.endpoint())?;
    /// let counted = client.stream("count", &3)?.collect::<Result<Vec<u32>, _>>()?;
    /// assert_eq!(counted, [0, 1, 2]);
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    #[must_use]
    pub fn stream<Args>(mut self, name: impl Into<String>, handler: impl StreamHandler<Args, S>) -> Self {
        let state = self.state.clone();
        let handler = move |call: &Call, reply: Reply| {
            let mut items = ItemSink::new(call);
            let reply = handler.handle(&state, call, &mut items, reply)?;
            items.finish(reply)
        };
        self.routes.insert(name.into(), Kind::Stream, Arc::new(handler));
        self
    }

    /// Adds the methods of another router, within the layers that they have there, and those of this one. They keep
    /// their state. Of two methods of one name the other router's stays. Its fallback and its events are added where
    /// this router has none.
    ///
    /// ```
    /// use procbridge::Router;
    ///
    /// let numbers = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
    /// let texts = Router::with_state("hello ".to_string())
    ///     .method("greet", |greeting: &String, name: String| greeting.clone() + &name);
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
    /// use procbridge::{Client, Router, Server};
    ///
    /// let math = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
    /// let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().nest("math", math))?;
    ///
    /// let client = Client::connect(server.endpoint())?;
    /// assert_eq!(client.request::<i64>("math.sum", &[1, 2])?, 3);
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    #[must_use]
    pub fn nest<T: Send + Sync + 'static>(mut self, prefix: &str, other: Router<T>) -> Self {
        self.routes.nest(prefix, other.into_routes());
        self
    }

    /// Answers `$/subscribe` with the events of `hub`, see [`Hub`].
    #[must_use]
    pub fn events(mut self, hub: &Hub) -> Self {
        let hub = hub.clone();
        self.routes.set_subscribe(Arc::new(move |call, config| hub.answer(call, config)));
        self
    }

    /// Answers all calls whose method is not registered here, and those without a method name. Payload and result have
    /// the same type: a `Value`, or `Box<RawValue>` for JSON text exactly as it was sent.
    #[must_use]
    pub fn fallback<F, T>(mut self, handler: F) -> Self
    where
        F: Fn(&Call, T) -> Result<T, ReplyError> + Send + Sync + 'static,
        T: DeserializeOwned + Serialize,
    {
        self.routes.set_fallback(Arc::new(move |call: &Call, reply: Reply| {
            reply.write(&handler(call, payload(call)?)?)
        }));
        self
    }

    /// Sets a one-line description of the method `name`, for [`$/describe`](crate::ServerConfig::without_describe). It
    /// may be called before or after the method is added.
    ///
    /// ```
    /// use procbridge::Router;
    ///
    /// let router = Router::new()
    ///     .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
    ///     .describe("sum", "Adds the numbers.");
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
    /// use procbridge::Router;
    ///
    /// let router = Router::new()
    ///     .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
    ///     .schema::<Vec<i64>, i64>("sum");
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

    /// Wraps a function around all methods of this router, including methods added later, the fallback and unknown
    /// methods. The layer may inspect the call, refuse it, pass it on with [`Next::run`], and inspect the result. The
    /// layer added first is the outermost. A panic in a layer is answered as a handler's is.
    ///
    /// The protocol's own methods (`$/ping` and so on) belong to the server, not to the router: layers do not wrap
    /// them. [`ServerConfig`] can switch them off.
    ///
    /// ```
    /// use procbridge::{ReplyError, Router, code, layers};
    ///
    /// let router = Router::new()
    ///     .layer(layers::max_in_flight(8))
    ///     .layer(|call, next| {
    ///         let is_for_root = call.method().is_some_and(|method| method.starts_with("admin."));
    ///         if is_for_root && call.peer().uid() != Some(0) {
    ///             return Err(ReplyError::new("only root may do this").with_code(code::DENIED));
    ///         }
    ///         next.run()
    ///     })
    ///     .method("admin.reload", || ());
    /// # let server = procbridge::Server::bind("127.0.0.1:0")?.spawn(router)?;
    /// # let client = procbridge::Client::connect(server.endpoint())?;
    /// # let refused = client.request::<()>("admin.reload", &()).unwrap_err();
    /// # assert_eq!(refused.to_string(), "only root may do this");
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    #[must_use]
    pub fn layer<F>(mut self, layer: F) -> Self
    where
        F: Fn(&Call, Next<'_>) -> Result<Reply, ReplyError> + Send + Sync + 'static,
    {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Returns the router for a server, which needs no state: its methods have it.
    pub(crate) fn without_state(self) -> Router {
        Router { routes: self.routes, layers: self.layers, state: Arc::default() }
    }

    /// Returns the routes with the layers around each handler.
    pub(crate) fn into_routes(self) -> Routes<BoxedHandler> {
        if self.layers.is_empty() {
            return self.routes;
        }
        let layers: Arc<[_]> = self.layers.into();
        let within = |handler: Arc<BoxedHandler>| -> Arc<BoxedHandler> {
            let layers = layers.clone();
            Arc::new(move |call: &Call, reply: Reply| Next::new(call, reply, &layers, Some(&*handler)).run())
        };
        self.routes.map(within)
    }
}

impl Router {
    /// Returns the packet that answers `call`, whatever its handler does, and when the handler ended. Returns no packet
    /// if the call has become a subscription. `began` is when the call began.
    pub(crate) fn answer(
        &self,
        call: &Call,
        config: &ServerConfig,
        stats: &Stats,
        began: Instant,
    ) -> (Option<Packet>, Instant) {
        let mut ended = None;
        let handled = self.handle(call, config, stats, began, &mut ended);
        let packet = handled.unwrap_or_else(|refusal| Some(refusal.packet(call.version(), &config.limits)));
        (packet, ended.unwrap_or_else(Instant::now))
    }

    fn handle(
        &self,
        call: &Call,
        config: &ServerConfig,
        stats: &Stats,
        began: Instant,
        ended: &mut Option<Instant>,
    ) -> Result<Option<Packet>, ReplyError> {
        authorized(call, config)?;
        if self.routes.is_subscription(call.method(), config) {
            return Ok(self.routes.subscribe(call, config));
        }
        let reply = good_reply(call, config);
        if let Some(method) = builtin::method(call, config) {
            let reply = method.answer(call, reply, config, stats, &self.routes)?;
            return finish(config, reply).map(Some);
        }
        let measured = stats.begin_at(call.method(), began);
        let next = Next::new(call, reply, &self.layers, self.routes.find(call).map(|handler| &**handler));
        let handled = trace_context::within(call.trace(), || next.run());
        let finished = handled.and_then(|reply| finish(config, reply));
        *ended = Some(measured.end(finished.is_ok() && !call.is_cancelled()));
        finished.map(Some)
    }
}

impl Default for Router {
    fn default() -> Self {
        Self { routes: Routes::default(), layers: Vec::new(), state: Arc::default() }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn layer_and_handler_belong_to_the_trace_of_their_call() {
        let parent = || trace_context::current().map(|context| context.parent().to_string());
        let router = Router::new().method("parent", parent).layer(move |call, next| {
            assert_eq!(parent().as_deref(), call.traceparent());
            next.run()
        });
        let (config, stats) = (ServerConfig::new(), Stats::new(1, []));
        let ask = |call: &Call| {
            router.answer(call, &config, &stats, Instant::now()).0.unwrap().bytes()[11..].to_vec()
        };
        let traced = Call::of(&format!(r#"{{"method":"parent","meta":{{"traceparent":"{PARENT}"}}}}"#));
        assert_eq!(ask(&traced), format!(r#"{{"payload":"{PARENT}"}}"#).into_bytes());
        assert_eq!(ask(&Call::of(r#"{"method":"parent"}"#)), b"{}");
        assert_eq!(trace_context::current(), None);
    }
}

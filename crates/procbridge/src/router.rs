//! Methods by name, and what is answered whatever a handler does.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use procbridge_proto::{Misuse, Packet, code};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::Call;
use crate::config::ServerConfig;
use crate::handler::{Handler, Reply, payload};
use crate::refusal::Refusal;

/// The methods of a server.
///
/// Names are case-sensitive and may hold anything; those that begin with `$/` belong to the protocol. A later
/// registration of a name replaces the earlier one. Without a fallback, an unknown method is answered with the
/// code `unknown_method`.
///
/// ```
/// use procbridge::{Call, Refusal, Router};
/// use serde_json::Value;
///
/// let router = Router::new()
///     .method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>())
///     .method("add", |(a, b): (i64, i64)| a + b)
///     .method("whoami", |call: &Call| call.peer().to_string())
///     .fallback(|call, payload: Value| Err(Refusal::unknown_method(call.method())));
/// ```
#[derive(Clone, Default)]
pub struct Router {
    pub(crate) routes: Routes<BoxedHandler>,
}

/// A blocking handler of any form.
pub(crate) type BoxedHandler = dyn Fn(&Call, Reply) -> Result<Reply, Refusal> + Send + Sync;

/// Handlers by name and the one for all other names; the same for blocking and for async handlers.
pub(crate) struct Routes<H: ?Sized> {
    pub(crate) methods: HashMap<String, Arc<H>>,
    pub(crate) fallback: Option<Arc<H>>,
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
    /// use procbridge::{Refusal, Router};
    /// use serde_json::Value;
    ///
    /// let router = Router::delegate(|method: Option<&str>, payload: Value| match method {
    ///     Some("echo") => Ok(payload),
    ///     _ => Err(Refusal::unknown_method(method)),
    /// });
    /// ```
    pub fn delegate<F, R>(delegate: F) -> Self
    where
        F: Fn(Option<&str>, Value) -> R + Send + Sync + 'static,
        R: Serialize,
    {
        let mut router = Self::new();
        router.routes.set_fallback(Arc::new(move |call: &Call, reply: Reply| {
            reply.write(&delegate(call.method(), payload(call)?))
        }));
        router
    }

    /// Adds a method, see [`Handler`] for the functions that will do.
    #[must_use]
    pub fn method<Args>(mut self, name: impl Into<String>, handler: impl Handler<Args>) -> Self {
        let handler = move |call: &Call, reply: Reply| handler.handle(call, reply);
        self.routes.insert(name.into(), Arc::new(handler));
        self
    }

    /// Answers all calls that have no method here, those that name none included. Payload and result are of one type:
    /// a `Value`, or `Box<RawValue>` for JSON text exactly as it was sent.
    #[must_use]
    pub fn fallback<F, T>(mut self, handler: F) -> Self
    where
        F: Fn(&Call, T) -> Result<T, Refusal> + Send + Sync + 'static,
        T: DeserializeOwned + Serialize,
    {
        self.routes.set_fallback(Arc::new(move |call: &Call, reply: Reply| {
            reply.write(&handler(call, payload(call)?)?)
        }));
        self
    }

    /// The packet that answers `call`, whatever its handler does.
    pub(crate) fn answer(&self, call: &Call, config: &ServerConfig) -> Packet {
        let handled = match self.routes.find(call) {
            Some(handler) => guarded(|| handler(call, reply(call, config))),
            None => Err(Refusal::unknown_method(call.method())),
        };
        packet(call, config, handled)
    }
}

impl<H: ?Sized> Routes<H> {
    pub(crate) fn insert(&mut self, name: String, handler: Arc<H>) {
        self.methods.insert(name, handler);
    }

    pub(crate) fn set_fallback(&mut self, handler: Arc<H>) {
        self.fallback = Some(handler);
    }

    pub(crate) fn find(&self, call: &Call) -> Option<&Arc<H>> {
        call.method().and_then(|method| self.methods.get(method)).or(self.fallback.as_ref())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.methods.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// The good response to `call`, to be written by its handler.
pub(crate) fn reply(call: &Call, config: &ServerConfig) -> Reply {
    let packet = Packet::good(call.version());
    Reply(if config.explicit_null { packet.explicit_null() } else { packet })
}

/// What a handler did becomes one whole packet, before the first byte of it is sent.
pub(crate) fn packet(call: &Call, config: &ServerConfig, handled: Result<Reply, Refusal>) -> Packet {
    let finished = handled.and_then(|reply| reply.0.finish(&config.limits).map_err(unsendable));
    finished.unwrap_or_else(|refusal| refusal.packet(call.version(), &config.limits))
}

/// What `work` returns, or the answer to its panic. A handler is not looked at again after a panic; its captured state
/// is its own affair.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // What was thrown may throw again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
        Err(panicked())
    })
}

pub(crate) fn panicked() -> Refusal {
    Refusal::internal("the method failed unexpectedly (panic)")
}

/// The answer to a call whose time is over.
pub(crate) fn timed_out() -> Refusal {
    Refusal::new("the method did not finish within its time limit").with_code(code::TIMEOUT)
}

/// The answer to a call that a stopping server will not wait for.
pub(crate) fn cancelled() -> Refusal {
    Refusal::new("the server stopped before the method finished").with_code(code::CANCELLED)
}

/// The answer to a call that would be one too many. `limit` is the setting that says so.
pub(crate) fn overloaded(what: &str, limit: usize, setting: &str) -> Refusal {
    Refusal::new(format!("the server has reached its limit of {what} ({setting} = {limit})"))
        .with_code(code::OVERLOADED)
}

/// The answer to a request that had not arrived when the server began to stop.
pub(crate) fn stopping() -> Refusal {
    Refusal::new("the server is stopping").with_code(code::UNAVAILABLE)
}

/// The answer to a request that arrives too slowly.
pub(crate) fn too_slow() -> Refusal {
    Refusal::new("the request did not arrive in time (header_timeout)").with_code(code::TIMEOUT)
}

/// The answer to a peer of another user.
pub(crate) fn denied() -> Refusal {
    Refusal::new("only the server's own user may connect (allow_any_user)").with_code(code::DENIED)
}

fn unsendable(error: Misuse) -> Refusal {
    Refusal::new(format!("the result cannot be sent: {error}")).with_code(code::TOO_LARGE)
}

impl<H: ?Sized> Clone for Routes<H> {
    fn clone(&self) -> Self {
        Self { methods: self.methods.clone(), fallback: self.fallback.clone() }
    }
}

impl<H: ?Sized> Default for Routes<H> {
    fn default() -> Self {
        Self { methods: HashMap::new(), fallback: None }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("methods", &self.routes.names()).finish_non_exhaustive()
    }
}

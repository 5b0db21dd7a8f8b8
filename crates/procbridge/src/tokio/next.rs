//! One method of a router, and the chain to its handler: the rest of the layers, and at last the handler.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::blocking::next::BoxedHandler;
use crate::reply_error::ReplyError;
use crate::service::dispatch::guarded;
use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::handler_speed::HandlerSpeed;
use crate::tokio::handler_task::{CallGuard, GuardedFuture, Work, on_a_thread};

/// The rest of the chain behind a layer, see [`Router::layer`](crate::tokio::Router::layer).
pub struct Next {
    pub(super) call: Call,
    pub(super) reply: Reply,
    pub(super) layers: Arc<Vec<Arc<BoxedLayer>>>,
    /// How many of the layers the call has passed.
    pub(super) passed: usize,
    pub(super) route: Option<Arc<Route>>,
    pub(super) guard: Arc<CallGuard>,
    pub(super) leaked: Arc<AtomicUsize>,
}

/// A handler, with how quick it has been.
pub(super) struct Route {
    pub(super) run: Run,
    pub(super) speed: HandlerSpeed,
    /// The layers of the router that this route was merged from, the outermost first.
    pub(super) layers: Vec<Arc<BoxedLayer>>,
}

/// Where a handler runs.
#[derive(Clone)]
pub(super) enum Run {
    Task(Arc<dyn Fn(Call, Reply) -> Work + Send + Sync>),
    Thread(Arc<BoxedHandler>),
}

/// A function around handlers.
pub(super) type BoxedLayer = dyn Fn(Call, Next) -> Work + Send + Sync;

impl Next {
    /// Runs the next layer, or the handler after the last one.
    ///
    /// # Errors
    ///
    /// The refusal to answer with. A panic further down the chain becomes one with the code `internal`, an unknown
    /// method one with the code `unknown_method`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handler's. A blocking handler goes on, counted as leaked.
    pub async fn run(self) -> Result<Reply, ReplyError> {
        self.begin()?.await
    }

    /// Returns a good response without a payload, for a layer that answers by itself.
    ///
    /// ```
    /// use procbridge::tokio::Router;
    ///
    /// // The method's name is the answer to everything.
    /// let router = Router::new().layer(|call, next| async move { next.into_reply().write(&call.method()) });
    /// ```
    pub fn into_reply(self) -> Reply {
        self.reply
    }

    pub(super) fn begin(self) -> Result<GuardedFuture, ReplyError> {
        let own = || self.route.as_deref()?.layers.get(self.passed - self.layers.len());
        if let Some(layer) = self.layers.get(self.passed).or_else(own).cloned() {
            return GuardedFuture::begin(|| {
                layer(self.call.clone(), Self { passed: self.passed + 1, ..self })
            });
        }
        let Self { call, reply, route, guard, leaked, .. } = self;
        match route.as_deref().map(|route| &route.run) {
            None => Err(ReplyError::unknown_method(call.method())),
            Some(Run::Task(handler)) => GuardedFuture::begin(|| handler(call, reply)),
            Some(Run::Thread(handler)) => {
                let handler = handler.clone();
                let work = move |call: &crate::Call| guarded(|| handler(call, reply));
                GuardedFuture::begin(|| on_a_thread(call.into_inner(), guard, leaked, work))
            }
        }
    }
}

impl Route {
    pub(super) fn task(handler: impl Fn(Call, Reply) -> Work + Send + Sync + 'static) -> Arc<Self> {
        Self::of(Run::Task(Arc::new(handler)))
    }

    pub(super) fn of(run: Run) -> Arc<Self> {
        Arc::new(Self { run, speed: HandlerSpeed::default(), layers: Vec::new() })
    }

    /// Returns the same route within these layers.
    pub(super) fn within(self: Arc<Self>, layers: &[Arc<BoxedLayer>]) -> Arc<Self> {
        let layers = layers.iter().chain(&self.layers).cloned().collect();
        Arc::new(Self { run: self.run.clone(), speed: HandlerSpeed::default(), layers })
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("call", &self.call).finish_non_exhaustive()
    }
}

//! The rest of the chain behind a layer: more layers, and at last the handler.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::reply_error::Refusal;
use crate::service::dispatch::guarded;
use crate::service::reply::Reply;
use crate::tokio::call::Call;
use crate::tokio::handler_task::{CallGuard, GuardedFuture, Work, on_a_thread};
use crate::tokio::route::{Route, Run};

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
    pub async fn run(self) -> Result<Reply, Refusal> {
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

    pub(super) fn begin(self) -> Result<GuardedFuture, Refusal> {
        let layers = self.layers.clone();
        if let Some(layer) = layers.get(self.passed) {
            return GuardedFuture::begin(|| {
                layer(self.call.clone(), Self { passed: self.passed + 1, ..self })
            });
        }
        let Self { call, reply, route, guard, leaked, .. } = self;
        match route.as_deref().map(|route| &route.run) {
            None => Err(Refusal::unknown_method(call.method())),
            Some(Run::Task(handler)) => GuardedFuture::begin(|| handler(call, reply)),
            Some(Run::Thread(handler)) => {
                let handler = handler.clone();
                let work = move |call: &crate::Call| guarded(|| handler(call, reply));
                GuardedFuture::begin(|| on_a_thread(call.into_inner(), guard, leaked, work))
            }
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("call", &self.call).finish_non_exhaustive()
    }
}

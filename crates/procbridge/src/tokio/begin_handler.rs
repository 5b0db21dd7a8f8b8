//! Where the handler of a call begins: on the task that found the call, or on a task of its own.
//!
//! Most handlers yield or end within microseconds, and a task for each would cost more than they do. A handler that
//! blocks at its beginning delays its whole session. So the calls of such a route get tasks of their own, until their
//! beginnings are quick again. Calls with a large payload, which takes time to read, get tasks too.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::reply_error::ReplyError;
use crate::service::reply::Reply;
use crate::telemetry::trace_context;
use crate::tokio::call::Call;
use crate::tokio::handler_speed::HandlerSpeed;
use crate::tokio::handler_task::{CallGuard, GuardedFuture, Guarding, HandlerTask};
use crate::tokio::next::{BoxedLayer, Next};
use crate::tokio::next::{Route, Run};

/// A call whose handler has not begun.
pub(super) struct HandlerStart<R, L, C> {
    pub(super) call: crate::Call,
    pub(super) reply: Reply,
    pub(super) guard: CallGuard,
    /// `None` if the method is unknown.
    pub(super) route: Option<R>,
    pub(super) layers: L,
    pub(super) leaked: C,
}

type Layers = Arc<Vec<Arc<BoxedLayer>>>;
/// A call that borrows from the router.
pub(super) type InlineStart<'r> = HandlerStart<&'r Arc<Route>, &'r Layers, &'r Arc<AtomicUsize>>;
/// A call that may outlive the router.
pub(super) type SpawnedStart = HandlerStart<Arc<Route>, Layers, Arc<AtomicUsize>>;

impl<'r> InlineStart<'r> {
    /// Whether it is to begin on a task of its own.
    pub(super) fn is_spawned(&self) -> bool {
        self.route.is_some_and(|route| route.speed.is_slow())
            || self.call.payload().is_some_and(|payload| payload.len() >= LARGE)
    }

    /// Returns how quick the route's handlers have been.
    pub(super) fn speed(&self) -> Option<&'r HandlerSpeed> {
        self.route.map(|route| &route.speed)
    }

    /// Converts to a call that owns its parts of the router.
    pub(super) fn spawned(self) -> SpawnedStart {
        let Self { call, reply, guard, route, layers, leaked } = self;
        HandlerStart {
            call,
            reply,
            guard,
            route: route.cloned(),
            layers: layers.clone(),
            leaked: leaked.clone(),
        }
    }

    /// Begins the handler.
    pub(super) fn begin(self) -> Result<HandlerTask, ReplyError> {
        let Self { call, reply, guard, route, layers, leaked } = self;
        if layers.is_empty()
            && let Some(Route { run: Run::Task(handler), layers: own, .. }) = route.map(|route| &**route)
            && own.is_empty()
        {
            // The usual case: no other part holds anything of the call.
            let begin = || GuardedFuture::begin(|| handler(Call::new(&call), reply));
            let work = trace_context::within(call.trace(), begin)?;
            return Ok(HandlerTask::new(call, Guarding::Alone(guard), work));
        }
        let guard = Arc::new(guard);
        let next = Next {
            call: Call::new(&call),
            reply,
            layers: layers.clone(),
            passed: 0,
            route: route.cloned(),
            guard: guard.clone(),
            leaked: leaked.clone(),
        };
        let work = trace_context::within(call.trace(), || next.begin())?;
        Ok(HandlerTask::new(call, Guarding::Shared(guard), work))
    }
}

impl SpawnedStart {
    /// Returns the route, whose speed is noted when its handler has begun.
    pub(super) fn route(&self) -> Option<Arc<Route>> {
        self.route.clone()
    }

    /// Begins the handler.
    pub(super) fn begin(self) -> Result<HandlerTask, ReplyError> {
        let Self { call, reply, guard, route, layers, leaked } = self;
        HandlerStart { call, reply, guard, route: route.as_ref(), layers: &layers, leaked: &leaked }.begin()
    }
}

/// The payload size from which a payload is read on a task of its own.
const LARGE: usize = 64 * 1024;

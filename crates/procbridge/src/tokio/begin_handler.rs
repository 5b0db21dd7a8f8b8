//! How the handler of a call is begun: on the task that found the call, or on a task of its own.
//!
//! Most handlers give up the thread or end within microseconds of their beginning, and a task for each would cost more than
//! they do. A handler that holds the thread at its beginning holds up its whole session, so the calls of such a route get
//! tasks of their own until their beginnings are quick again. So do calls with a large payload, which takes time to be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crate::blocking::handler::Reply;
use crate::reply_error::Refusal;
use crate::telemetry::trace_context;
use crate::tokio::call::Call;
use crate::tokio::handler_task::{CallGuard, GuardedFuture, Guarding, HandlerTask};
use crate::tokio::next::{BoxedLayer, Next};
use crate::tokio::router::{Route, Run};

/// A call whose handler has not begun.
pub(super) struct HandlerStart<R, L, C> {
    pub(super) call: crate::Call,
    pub(super) reply: Reply,
    pub(super) hold: CallGuard,
    /// Absent if there is no such method.
    pub(super) route: Option<R>,
    pub(super) layers: L,
    pub(super) leaked: C,
}

type Layers = Arc<Vec<Arc<BoxedLayer>>>;
/// One that goes on with what the router has.
pub(super) type InlineStart<'r> = HandlerStart<&'r Arc<Route>, &'r Layers, &'r Arc<AtomicUsize>>;
/// One that may outlive the router.
pub(super) type SpawnedStart = HandlerStart<Arc<Route>, Layers, Arc<AtomicUsize>>;

/// What is known of the beginnings of a route's handlers.
#[derive(Debug, Default)]
pub(super) struct HandlerSpeed {
    /// How many quick beginnings are to come before the next one is on the session's task. 0: it is.
    slow: AtomicU32,
}

impl<'r> InlineStart<'r> {
    /// Whether it is to begin on a task of its own.
    pub(super) fn is_spawned(&self) -> bool {
        self.route.is_some_and(|route| route.pace.slow.load(Ordering::Relaxed) > 0)
            || self.call.payload().is_some_and(|payload| payload.len() >= LARGE)
    }

    /// What is known of the route.
    pub(super) fn speed(&self) -> Option<&'r HandlerSpeed> {
        self.route.map(|route| &route.pace)
    }

    /// The same with its own share of the router.
    pub(super) fn spawned(self) -> SpawnedStart {
        let Self { call, reply, hold, route, layers, leaked } = self;
        HandlerStart {
            call,
            reply,
            hold,
            route: route.cloned(),
            layers: layers.clone(),
            leaked: leaked.clone(),
        }
    }

    /// Begins the handler.
    pub(super) fn begin(self) -> Result<HandlerTask, Refusal> {
        let Self { call, reply, hold, route, layers, leaked } = self;
        if layers.is_empty()
            && let Some(Run::Task(handler)) = route.map(|route| &route.run)
        {
            // The usual case: nothing of the call is shared with anybody.
            let begin = || GuardedFuture::begin(|| handler(Call::new(&call), reply));
            let work = trace_context::within(call.trace(), begin)?;
            return Ok(HandlerTask::new(call, Guarding::Alone(hold), work));
        }
        let hold = Arc::new(hold);
        let next = Next {
            call: Call::new(&call),
            reply,
            layers: layers.clone(),
            passed: 0,
            route: route.cloned(),
            hold: hold.clone(),
            leaked: leaked.clone(),
        };
        let work = trace_context::within(call.trace(), || next.begin())?;
        Ok(HandlerTask::new(call, Guarding::Shared(hold), work))
    }
}

impl SpawnedStart {
    /// The route, of which more is known when its handler has begun.
    pub(super) fn route(&self) -> Option<Arc<Route>> {
        self.route.clone()
    }

    /// Begins the handler.
    pub(super) fn begin(self) -> Result<HandlerTask, Refusal> {
        let Self { call, reply, hold, route, layers, leaked } = self;
        HandlerStart { call, reply, hold, route: route.as_ref(), layers: &layers, leaked: &leaked }.begin()
    }
}

impl HandlerSpeed {
    /// Takes note of how long a beginning took on the session's task.
    pub(super) fn ran_inline(&self, lasted: Duration) {
        if lasted >= SLOW {
            self.slow.store(STEADY, Ordering::Relaxed);
        }
    }

    /// Takes note of how long a beginning took on a task of its own.
    pub(super) fn ran_spawned(&self, lasted: Duration) {
        if lasted >= SLOW {
            self.slow.store(STEADY, Ordering::Relaxed);
        } else {
            let less = |slow: u32| slow.checked_sub(1);
            let _ = self.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

/// A beginning that holds the thread for so long is slow. It is well over what a quick one takes on a busy machine.
const SLOW: Duration = Duration::from_micros(500);
/// How many quick ones in a row show that a route is quick again.
const STEADY: u32 = 64;
/// A payload of this size is read on a task of its own.
const LARGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_apart_after_one_slow_beginning_until_many_were_quick() {
        let pace = HandlerSpeed::default();
        let is_apart = || pace.slow.load(Ordering::Relaxed) > 0;
        pace.ran_inline(SLOW / 2);
        assert!(!is_apart());
        pace.ran_inline(SLOW);
        for _ in 1..STEADY {
            pace.ran_spawned(SLOW / 2);
            assert!(is_apart());
        }
        pace.ran_spawned(SLOW);
        for _ in 0..STEADY {
            assert!(is_apart());
            pace.ran_spawned(SLOW / 2);
        }
        assert!(!is_apart());
        pace.ran_spawned(SLOW / 2);
        assert!(!is_apart());
    }
}

//! The checks of a thread that serves many sessions. It never blocks on the lock of one: the other sessions would wait
//! too.

use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Instant;

use crate::net::socket;
use std::sync::Arc;

use crate::session::call_state::CallState;
use crate::session::context::SessionContext;
use crate::session::end::End;
use crate::session::session::Session;
use crate::session::state::State;
use crate::session::waker::keep_waker;

/// The findings of a scan of one session.
#[derive(Debug)]
pub(crate) struct IdleScan {
    /// Whether there are incoming calls that no handler has begun to serve.
    pub(crate) has_incoming: bool,
    /// The calls that were answered at their deadline.
    pub(crate) expired: Vec<Arc<CallState>>,
    /// When the next timer is due.
    pub(crate) next: Option<Instant>,
}

/// The events that a session waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    pub(crate) has_ended: bool,
    pub(crate) is_blocked: bool,
    pub(crate) is_reading_paused: bool,
}

/// Whether and since when a session is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// No call has been in flight since then.
    Since(Instant),
    /// A call is in flight or partly received, or the session has ended.
    Busy,
}

impl State {
    fn idle(&self, context: &SessionContext) -> Idle {
        let is_unused = self.outgoing.calls.is_empty()
            && self.incoming.served.is_empty()
            && self.incoming.ready.is_empty();
        let is_quiet = self.is_open() && self.outgoing.queued.is_none() && !self.connection.is_receiving();
        // Input that has not been read yet may be a call.
        if is_unused && is_quiet && !socket::has_input(context.socket()) {
            Idle::Since(self.keepalive.used())
        } else {
            Idle::Busy
        }
    }
}

impl Session {
    /// Returns whether the session is idle; nothing if another thread has its lock.
    pub(crate) fn idle(&self) -> Option<Idle> {
        self.try_with(|state| state.idle(self))
    }

    /// Ends the session with GOODBYE, if it is still idle. Returns whether it was ended.
    pub(crate) fn end_idle(&self) -> bool {
        let ended = self.try_with(|state| {
            if state.idle(self) == Idle::Busy {
                return false;
            }
            state.connection.goodbye("idle, and the server is full");
            state.flush(self);
            if !state.has_ended() {
                state.end(self.socket(), End::Closed);
            }
            true
        });
        ended == Some(true)
    }

    /// Runs the timers due at `now` and registers `standby`. Returns nothing if another thread has the session's lock.
    /// The handlers of calls past their deadline count as `leaked` from now on.
    pub(crate) fn scan(
        &self,
        now: Instant,
        standby: Option<&Waker>,
        leaked: &AtomicUsize,
    ) -> Option<IdleScan> {
        self.try_with(|state| {
            // Register before checking, or a call in between wakes no thread.
            if let Some(waker) = standby {
                keep_waker(&mut state.incoming.standby, waker);
            }
            let has_incoming = !state.incoming.ready.is_empty();
            let (expired, due) = state.expire(self, now, leaked);
            state.drop_buffer(usize::MAX);
            let tick = self.tick_with(state, now);
            IdleScan { has_incoming, expired, next: [due, tick].into_iter().flatten().min() }
        })
    }

    /// Returns the events that the session waits for; nothing if another thread has its lock.
    pub(crate) fn interest(&self) -> Option<Interest> {
        self.try_with(|state| Interest {
            has_ended: state.has_ended(),
            is_blocked: state.writing.blocked.is_some(),
            is_reading_paused: state.is_paused(self),
        })
    }

    /// Flushes what a full socket did not take, unless another thread has the session's lock.
    pub(crate) fn try_flush(&self) {
        self.try_with(|state| {
            if state.writing.blocked.is_some() {
                state.flush(self);
            }
        });
    }
}

//! What a thread does that sees to many sessions. It waits for none of them: a session may be busy, and the others would
//! wait with it.

use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Instant;

use crate::net::socket;
use std::sync::Arc;

use crate::session::call_state::CallState;
use crate::session::context::SessionContext;
use crate::session::session::Session;
use crate::session::state::{End, State};
use crate::session::waker::keep_waker;

/// What was found in a session.
#[derive(Debug)]
pub(crate) struct IdleScan {
    /// Whether there are calls of the peer that nobody has begun to serve.
    pub(crate) has_work: bool,
    /// The calls that were answered because their time was over.
    pub(crate) expired: Vec<Arc<CallState>>,
    /// When something will be due.
    pub(crate) next: Option<Instant>,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    pub(crate) has_ended: bool,
    pub(crate) is_blocked: bool,
    pub(crate) is_reading_paused: bool,
}

/// Whether a session is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// No call has been in flight since then.
    Since(Instant),
    /// A call is in flight, or something of one, or the session is over.
    Busy,
}

impl State {
    fn idle(&self, context: &SessionContext) -> Idle {
        let is_unused = self.calls.is_empty() && self.serving.is_empty() && self.ready.is_empty();
        let is_quiet = self.is_open() && self.queued.is_none() && !self.connection.is_receiving();
        // What has arrived and was not read yet may be a call.
        if is_unused && is_quiet && !socket::has_input(context.socket()) {
            Idle::Since(self.keepalive.used())
        } else {
            Idle::Busy
        }
    }
}

impl Session {
    /// Whether the session is used. Returns nothing if it is busy right now.
    pub(crate) fn idle(&self) -> Option<Idle> {
        self.try_with(|state| state.idle(self))
    }

    /// Ends the session with GOODBYE, if it is idle still. Tells whether it was ended.
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

    /// Does what is due at `now`, and has `attendant` told of what there will be to serve. Returns nothing if the session
    /// is busy. The handlers of calls whose time is over are `leaked` from now on.
    pub(crate) fn scan(
        &self,
        now: Instant,
        standby: Option<&Waker>,
        leaked: &AtomicUsize,
    ) -> Option<IdleScan> {
        self.try_with(|state| {
            // First the word to be told, then the look: what comes between them is told.
            if let Some(waker) = standby {
                keep_waker(&mut state.standby, waker);
            }
            let has_work = !state.ready.is_empty();
            let (expired, due) = state.expire(self, now, leaked);
            state.drop_buffer(usize::MAX);
            let beat = self.tick_with(state, now);
            IdleScan { has_work, expired, next: [due, beat].into_iter().flatten().min() }
        })
    }

    /// What the session waits for. Returns nothing if it is busy.
    pub(crate) fn interest(&self) -> Option<Interest> {
        self.try_with(|state| Interest {
            has_ended: state.has_ended(),
            is_blocked: state.blocked.is_some(),
            is_reading_paused: state.is_paused(self),
        })
    }

    /// Writes what the socket has not taken before, unless the session is busy.
    pub(crate) fn try_flush(&self) {
        self.try_with(|state| {
            if state.blocked.is_some() {
                state.flush(self);
            }
        });
    }
}

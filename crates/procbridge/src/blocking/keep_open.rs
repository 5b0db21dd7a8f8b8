//! Which thread keeps a session open for a client that serves, and which session was greeted last.

use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::client::retry::Backoff;
use crate::session::Session;

/// Keeps a session open for a client that serves, and has each greeted once. One thread does, when there is something to be
/// done: sessions that end one soon after the other are all its own.
#[derive(Debug, Default)]
pub(super) struct KeepOpen {
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Whether the client serves, and its first session was greeted.
    is_on: bool,
    is_running: bool,
    is_over: bool,
    /// How often a session was opened.
    opened: u64,
    /// The last session that was greeted.
    greeted: Weak<Session>,
    backoff: Backoff,
}

impl KeepOpen {
    /// Begins with `session`, which the caller greets.
    pub(super) fn start(&self, session: &Arc<Session>) {
        let mut state = self.lock();
        state.is_on = true;
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
    }

    /// Tells that a session was opened.
    pub(super) fn note_opened(&self) {
        self.lock().opened += 1;
        self.changed.notify_all();
    }

    /// Tells that the client is gone.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Whether the calling thread is the one to keep a session open from now on.
    pub(super) fn claim(&self) -> bool {
        let mut state = self.lock();
        let is_free = state.is_on && !state.is_running;
        state.is_running |= is_free;
        is_free
    }

    /// Lets another thread [claim](Self::claim) that.
    pub(super) fn release(&self) {
        self.lock().is_running = false;
    }

    /// Whether `session` was not greeted before. From now on it is.
    pub(super) fn greets_session(&self, session: &Arc<Session>) -> bool {
        let mut state = self.lock();
        if ptr::eq(state.greeted.as_ptr(), Arc::as_ptr(session)) {
            return false;
        }
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
        true
    }

    /// Waits before the next attempt, unless a call opens a session meanwhile or the client ends. `is_needless` looks.
    pub(super) fn pause(&self, is_needless: impl Fn() -> bool) {
        let now = Instant::now();
        let until = now + self.lock().backoff.pause(now);
        loop {
            let opened = self.lock().opened;
            // Not under the lock: the client may end with this look at it, and says so.
            if is_needless() {
                return;
            }
            let state = self.lock();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over {
                return;
            }
            // A session that was opened since then was told of before this waits.
            if state.opened == opened {
                drop(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

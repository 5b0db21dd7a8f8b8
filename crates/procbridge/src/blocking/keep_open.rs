//! Which thread keeps a session open for a client that serves, and which session was greeted last.

use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::client::retry::Backoff;
use crate::session::Session;

/// The state of the thread that keeps a session open for a client that serves, and greets each session once. At most
/// one such thread runs, and only while needed. Sessions that end in quick succession stay with the same thread.
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
    /// How many sessions were opened.
    opened: u64,
    /// The session greeted last.
    greeted: Weak<Session>,
    backoff: Backoff,
}

impl KeepOpen {
    /// Begins with `session`, which the calling thread greets.
    pub(super) fn start(&self, session: &Arc<Session>) {
        let mut state = self.lock();
        state.is_on = true;
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
    }

    /// Notes that a session was opened, and wakes the paused thread.
    pub(super) fn note_opened(&self) {
        self.lock().opened += 1;
        self.changed.notify_all();
    }

    /// Notes that the client was dropped, and wakes the paused thread.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Makes the calling thread the one that keeps a session open. Returns false if another thread is.
    pub(super) fn claim(&self) -> bool {
        let mut state = self.lock();
        let is_free = state.is_on && !state.is_running;
        state.is_running |= is_free;
        is_free
    }

    /// Gives up the [claim](Self::claim), so that another thread may take it.
    pub(super) fn release(&self) {
        self.lock().is_running = false;
    }

    /// Marks `session` as greeted. Returns whether it was not greeted before.
    pub(super) fn greets_session(&self, session: &Arc<Session>) -> bool {
        let mut state = self.lock();
        if ptr::eq(state.greeted.as_ptr(), Arc::as_ptr(session)) {
            return false;
        }
        state.greeted = Arc::downgrade(session);
        state.backoff.begun(Instant::now());
        true
    }

    /// Waits before the next attempt. Returns early if `is_needless` returns true after a session was opened, or if the
    /// client is dropped.
    pub(super) fn pause(&self, is_needless: impl Fn() -> bool) {
        let now = Instant::now();
        let until = now + self.lock().backoff.pause(now);
        loop {
            let opened = self.lock().opened;
            // Called without the lock: `is_needless` may drop the client, whose drop takes this lock.
            if is_needless() {
                return;
            }
            let state = self.lock();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over {
                return;
            }
            // Compare before waiting, or the notification of a session opened since the check above is lost.
            if state.opened == opened {
                drop(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

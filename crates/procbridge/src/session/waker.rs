//! Wakers: registering them, and those that are woken after the lock of a session is released.

use std::task::Waker;

use crate::telemetry::log::LogClass;

/// Registers `waker` in `kept`, unless that wakes the same task already.
pub(crate) fn keep_waker(kept: &mut Option<Waker>, waker: &Waker) {
    match kept {
        Some(kept) if kept.will_wake(waker) => {}
        _ => *kept = Some(waker.clone()),
    }
}

/// The work that is left until the lock of a session is released.
#[derive(Default)]
pub(crate) struct Unlocked {
    /// Woken.
    pub(super) to_wake: Vec<Waker>,
    /// Logged. It says why the session ends, so there is at most one.
    pub(super) log_line: Option<Box<(LogClass, String)>>,
    /// Whether the task that drives the session was notified to check its timers.
    #[cfg(feature = "tokio")]
    pub(super) is_notified: bool,
    /// Whether a woken caller may occupy its thread for long.
    #[cfg(feature = "tokio")]
    pub(super) wakes_large: bool,
}

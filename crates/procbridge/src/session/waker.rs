//! Registering wakers.

use std::task::Waker;

/// Registers `waker` in `kept`, unless that wakes the same task already.
pub(crate) fn keep_waker(kept: &mut Option<Waker>, waker: &Waker) {
    match kept {
        Some(kept) if kept.will_wake(waker) => {}
        _ => *kept = Some(waker.clone()),
    }
}

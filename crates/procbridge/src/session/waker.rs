//! Wakers that are kept.

use std::task::Waker;

/// Keeps `waker`, unless it is the one that is kept.
pub(crate) fn keep_waker(kept: &mut Option<Waker>, waker: &Waker) {
    match kept {
        Some(kept) if kept.will_wake(waker) => {}
        _ => *kept = Some(waker.clone()),
    }
}

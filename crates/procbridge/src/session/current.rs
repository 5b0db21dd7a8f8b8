//! Which connection a client's next call takes: the session that there is, or a new connection that offers one (PB-OFR-*).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::session::link::Link;

/// The session of a client, and the connections that may become one.
#[derive(Debug, Default)]
pub(crate) struct Current {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    link: Option<Arc<Link>>,
    /// Calls on connections of their own.
    alone: usize,
    /// Those that wait for a way, by the number of each.
    waiting: Vec<(u64, Waker)>,
    /// The number of the last of them.
    last: u64,
}

/// Somebody who looks for a way, and may have to wait for it. Dropping it gives that up.
#[derive(Debug)]
pub(crate) struct Seeking<'a> {
    current: &'a Current,
    number: Option<u64>,
}

/// The way of one call.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// On the session.
    Session(Arc<Link>),
    /// On a connection of its own.
    Alone(Alone<'a>),
    /// There are as many connections as there may be; the waker is told when that changes.
    Full,
}

/// The place of a call that has a connection of its own.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    current: &'a Current,
}

impl<'a> Seeking<'a> {
    /// The way for a call now.
    pub(crate) fn way(&mut self, waker: impl FnOnce() -> Waker) -> Way<'a> {
        if let Some(link) = self.current.session() {
            return Way::Session(link);
        }
        self.way_alone(waker)
    }

    /// The way of a call that must have a connection of its own.
    pub(crate) fn way_alone(&mut self, waker: impl FnOnce() -> Waker) -> Way<'a> {
        let mut inner = self.current.lock();
        if inner.alone < MAX_ALONE {
            inner.alone += 1;
            return Way::Alone(Alone { current: self.current });
        }
        inner.waiting.retain(|(number, _)| Some(*number) != self.number);
        inner.last += 1;
        let number = inner.last;
        inner.waiting.push((number, waker()));
        self.number = Some(number);
        Way::Full
    }
}

impl Drop for Seeking<'_> {
    fn drop(&mut self) {
        if self.number.is_some() {
            self.current.lock().waiting.retain(|(number, _)| Some(*number) != self.number);
        }
    }
}

impl Current {
    /// Begins to look for a way.
    pub(crate) fn seek(&self) -> Seeking<'_> {
        Seeking { current: self, number: None }
    }

    /// The session of the last call, which may be over.
    #[cfg(feature = "tokio")]
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone()
    }

    /// The session that there is.
    pub(crate) fn session(&self) -> Option<Arc<Link>> {
        let mut inner = self.lock();
        if inner.link.as_ref()?.is_open() {
            return inner.link.clone();
        }
        inner.link = None;
        None
    }

    /// Makes no more use of a session, which goes on where it is in use.
    pub(crate) fn forget(&self, link: &Arc<Link>) {
        let mut inner = self.lock();
        if inner.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            inner.link = None;
        }
    }

    /// Makes `link` the session for the calls to come, unless there is one. Whether it `fits` is asked when no other can be
    /// installed: who changes what fits, and then looks for the session, finds either this one or that it was refused.
    pub(crate) fn install(&self, link: &Arc<Link>, fits: impl FnOnce() -> bool) -> bool {
        let mut inner = self.lock();
        if inner.link.as_ref().is_some_and(|link| link.is_open()) || !fits() {
            return false;
        }
        inner.link = Some(link.clone());
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut inner = self.current.lock();
        inner.alone -= 1;
        // All of them: one alone may be somebody who has given up, and the others would wait on.
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Connections of a client at a time, besides its session.
const MAX_ALONE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::Bell;

    #[test]
    fn who_gives_up_to_wait_for_a_way_leaves_nothing_behind() {
        let current = Current::default();
        let has_way =
            |seeking: &mut Seeking<'_>, waker: &Waker| !matches!(seeking.way(|| waker.clone()), Way::Full);
        let full: Vec<_> = (0..MAX_ALONE).map(|_| current.seek().way(|| Waker::noop().clone())).collect();
        let (bell, waker) = Bell::new();
        let mut waits = current.seek();
        for _ in 0..3 {
            let mut given_up = current.seek();
            assert!(!has_way(&mut given_up, Waker::noop()) && !has_way(&mut waits, &waker));
        }
        assert_eq!(current.lock().waiting.len(), 1);
        drop(full);
        assert_eq!(bell.rung(), 1);
        assert!(has_way(&mut waits, &waker));
    }
}

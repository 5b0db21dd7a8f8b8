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
    waiting: Vec<Waker>,
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

impl Current {
    /// The way for a call now.
    pub(crate) fn way(&self, waker: impl FnOnce() -> Waker) -> Way<'_> {
        if let Some(link) = self.session() {
            return Way::Session(link);
        }
        self.way_alone(waker)
    }

    /// The way of a call that must have a connection of its own.
    pub(crate) fn way_alone(&self, waker: impl FnOnce() -> Waker) -> Way<'_> {
        let mut inner = self.lock();
        if inner.alone >= MAX_ALONE {
            inner.waiting.push(waker());
            return Way::Full;
        }
        inner.alone += 1;
        Way::Alone(Alone { current: self })
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
        waiting.into_iter().for_each(Waker::wake);
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
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Connections of a client at a time, besides its session.
const MAX_ALONE: usize = 256;

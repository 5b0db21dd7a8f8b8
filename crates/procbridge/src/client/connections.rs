//! Which connection a client's next call takes: the current session, or a new connection that offers one (PB-OFR-*).
//!
//! A client whose server does not support sessions opens a connection for each call. A server with a short backlog
//! drops further connections, and the operating system then waits a second or more before it retries. So the client
//! limits how many connections it opens at a time: fewer after one was refused or dropped, more after others were
//! accepted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::session::end::End;
use crate::session::session::Session;

/// The session of a client, and the connections that may become one.
#[derive(Debug)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Option<Arc<Session>>,
    /// How many calls have connections of their own.
    one_shots: usize,
    /// How many of their connections are being opened.
    connecting: usize,
    /// How many may be opened at a time, now and at most.
    limit: usize,
    most: usize,
    /// How many connections were opened since the limit last changed.
    made: usize,
    /// The wakers of the waiting calls, by the number of each.
    waiting: BTreeMap<u64, Waker>,
    /// The number of the last waiting call.
    last: u64,
}

/// A call that looks for a route, and may have to wait for it. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Checkout<'a> {
    current: &'a Connections,
    /// Its number in the wait queue, kept until it has a route.
    number: Option<u64>,
}

/// The route of one call.
#[derive(Debug)]
pub(crate) enum Route<'a> {
    /// The call goes on the session.
    Session(Arc<Session>),
    /// The call gets a connection of its own.
    OneShot(OneShotPermit<'a>),
    /// The connection limit is reached; the waker is called when that changes.
    Full,
}

/// The permit of a call with a connection of its own.
#[derive(Debug)]
pub(crate) struct OneShotPermit<'a> {
    current: &'a Connections,
    /// Whether the connection is being opened.
    is_connecting: bool,
    /// Whether the server was too busy to accept it at once.
    is_crowded: bool,
}

impl<'a> Checkout<'a> {
    /// Returns the route for a call now.
    pub(crate) fn route(&mut self, waker: impl FnOnce() -> Waker) -> Route<'a> {
        if let Some(session) = self.current.session() {
            return Route::Session(session);
        }
        self.one_shot_route(waker)
    }

    /// Returns the route for a call that must have a connection of its own.
    pub(crate) fn one_shot_route(&mut self, waker: impl FnOnce() -> Waker) -> Route<'a> {
        let mut inner = self.current.lock();
        if inner.has_permit() {
            inner.one_shots += 1;
            inner.connecting += 1;
            if let Some(number) = self.number.take() {
                inner.waiting.remove(&number);
            }
            return Route::OneShot(OneShotPermit {
                current: self.current,
                is_connecting: true,
                is_crowded: false,
            });
        }
        let number = *self.number.get_or_insert_with(|| {
            inner.last += 1;
            inner.last
        });
        inner.waiting.insert(number, waker());
        Route::Full
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut inner = self.current.lock();
            if inner.waiting.remove(&number).is_none() {
                // It was woken for a free permit that it does not take.
                let next = inner.next();
                drop(inner);
                next.into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl Inner {
    fn has_permit(&self) -> bool {
        self.one_shots < MAX_ONE_SHOT && self.connecting < self.limit
    }

    /// Returns the waker of the next waiting call, if a permit is free. A call that is woken and does not come [passes
    /// that on](Checkout).
    fn next(&mut self) -> Option<Waker> {
        if self.has_permit() { self.waiting.pop_first().map(|(_, waker)| waker) } else { None }
    }
}

impl Connections {
    /// Returns the state without a session. At most `most` connections are opened at a time.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        let (limit, waiting) = (most.min(INITIAL_CONNECTING), BTreeMap::new());
        let inner =
            Inner { session: None, one_shots: 0, connecting: 0, limit, most, made: 0, waiting, last: 0 };
        Self { inner: Mutex::new(inner) }
    }

    /// Leaves the session, for a client that is dropped: its reader would keep it open. Streams that are being read go
    /// on; a server that calls this client gets the refusal that it is gone.
    pub(crate) fn leave(&self) {
        if let Some(session) = self.session() {
            session.goodbye("the client is done");
            if !session.is_calling() {
                session.close(End::Closed);
            }
        }
    }

    /// Begins to look for a route.
    pub(crate) fn checkout(&self) -> Checkout<'_> {
        Checkout { current: self, number: None }
    }

    /// Returns the session of the last call, which may have ended.
    #[cfg(feature = "tokio")]
    pub(crate) fn last_session(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    /// Returns the current session, if it is open.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        let mut inner = self.lock();
        if inner.session.as_ref()?.is_open() {
            return inner.session.clone();
        }
        inner.session = None;
        None
    }

    /// Stops using a session for new calls; its calls in flight go on.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut inner = self.lock();
        if inner.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            inner.session = None;
        }
    }

    /// Makes `session` the one for the calls to come, unless there is one. `fits` is called under the lock. So a thread
    /// that changes what fits and then looks for the session finds this one, or this one was refused.
    pub(crate) fn install(&self, session: &Arc<Session>, fits: impl FnOnce() -> bool) -> bool {
        let mut inner = self.lock();
        if inner.session.as_ref().is_some_and(|session| session.is_open()) || !fits() {
            return false;
        }
        inner.session = Some(session.clone());
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_values().for_each(Waker::wake);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OneShotPermit<'_> {
    /// Notes that the server refused the connection, or does not accept it now: fewer are opened at a time.
    pub(crate) fn on_refused(&mut self) {
        if !std::mem::replace(&mut self.is_crowded, true) {
            let mut inner = self.current.lock();
            inner.limit = (inner.limit / 2).max(1);
            inner.made = 0;
        }
    }

    /// Notes that the connection was opened.
    pub(crate) fn on_connected(&mut self) {
        if !std::mem::replace(&mut self.is_connecting, false) {
            return;
        }
        let mut inner = self.current.lock();
        inner.connecting -= 1;
        inner.made += usize::from(!self.is_crowded);
        if inner.made >= inner.limit && inner.limit < inner.most {
            inner.limit += 1;
            inner.made = 0;
        }
        let next = [inner.next(), inner.next()];
        drop(inner);
        next.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for OneShotPermit<'_> {
    fn drop(&mut self) {
        let mut inner = self.current.lock();
        inner.one_shots -= 1;
        inner.connecting -= usize::from(self.is_connecting);
        let next = inner.next();
        drop(inner);
        next.into_iter().for_each(Waker::wake);
    }
}

/// The most connections of a client at a time, besides its session.
const MAX_ONE_SHOT: usize = 256;
/// How many connections are opened at a time before it is known how the server takes them.
const INITIAL_CONNECTING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::Bell;

    fn has_route(checkout: &mut Checkout<'_>, waker: &Waker) -> bool {
        !matches!(checkout.route(|| waker.clone()), Route::Full)
    }

    fn permit(current: &Connections) -> Option<OneShotPermit<'_>> {
        match current.checkout().route(|| Waker::noop().clone()) {
            Route::OneShot(permit) => Some(permit),
            _ => None,
        }
    }

    fn connected(current: &Connections) -> Option<OneShotPermit<'_>> {
        let mut permit = permit(current)?;
        permit.on_connected();
        Some(permit)
    }

    #[test]
    fn a_call_that_stops_waiting_for_a_route_leaves_nothing_behind() {
        let current = Connections::new(16);
        let full: Vec<_> = (0..MAX_ONE_SHOT).map(|_| connected(&current).unwrap()).collect();
        let (bell, waker) = Bell::new();
        let mut waits = current.checkout();
        for _ in 0..3 {
            let mut given_up = current.checkout();
            assert!(!has_route(&mut given_up, Waker::noop()) && !has_route(&mut waits, &waker));
        }
        assert_eq!(current.lock().waiting.len(), 1);
        drop(full);
        assert_eq!(bell.woken(), 1);
        assert!(has_route(&mut waits, &waker));
    }

    #[test]
    fn a_call_that_is_woken_and_gives_up_wakes_the_next() {
        let current = Connections::new(1);
        let busy = permit(&current);
        let (first, second) = (Bell::new(), Bell::new());
        let (mut early, mut late) = (current.checkout(), current.checkout());
        assert!(!has_route(&mut early, &first.1) && !has_route(&mut late, &second.1));
        drop(busy);
        assert_eq!((first.0.woken(), second.0.woken()), (1, 0));
        drop(early);
        assert_eq!(second.0.woken(), 1);
        assert!(has_route(&mut late, &second.1));
    }

    #[test]
    fn a_call_that_comes_late_keeps_its_number() {
        let current = Connections::new(1);
        let busy = permit(&current);
        let (first, second) = (Bell::new(), Bell::new());
        let (mut early, mut late) = (current.checkout(), current.checkout());
        assert!(!has_route(&mut early, &first.1) && !has_route(&mut late, &second.1));
        drop(busy);
        // Another call is faster.
        let busy = permit(&current);
        assert!(busy.is_some() && !has_route(&mut early, &first.1));
        drop(busy);
        assert_eq!((first.0.woken(), second.0.woken()), (2, 0));
    }

    #[test]
    fn a_crowded_server_gets_fewer_connections_at_a_time_and_a_good_one_more() {
        let current = Connections::new(6);
        let limit = || current.lock().limit;
        assert_eq!(limit(), INITIAL_CONNECTING);
        let mut dropped = permit(&current).unwrap();
        for _ in 0..3 {
            // Once for each connection, however often it is retried.
            dropped.on_refused();
        }
        assert_eq!(limit(), 2);
        dropped.on_connected();
        for _ in 0..10 {
            permit(&current).unwrap().on_refused();
        }
        assert_eq!(limit(), 1);
        for _ in 0..100 {
            drop(connected(&current));
        }
        assert_eq!(limit(), 6);
        drop(dropped);
        let inner = current.lock();
        assert_eq!((inner.one_shots, inner.connecting), (0, 0));
    }
}

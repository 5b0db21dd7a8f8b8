//! The sessions of a server: the list to end them all, and the clock that notifies them.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use ::tokio::sync::Notify;

use crate::config::tuning::STOPPING;
use crate::limits::admission::Whose;
use crate::peer::Peer;
use crate::reply_error::{self, ReplyError};
use crate::session::Session;
use crate::session::end::End;
use crate::session::eviction::Eviction;
use crate::tokio::clock;

/// All sessions of a server.
#[derive(Debug)]
pub(in crate::tokio) struct Sessions {
    inner: Mutex<Inner>,
    /// Notified when something is planned before everything else.
    planned: Notify,
    eviction: Eviction,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    open: HashMap<u64, Weak<Session>>,
    /// The start of the first tick.
    start: Instant,
    /// Which sessions to notify at each tick.
    due: BTreeMap<u64, Vec<u64>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let eviction = Eviction::new(clock::now());
        Self { inner: Mutex::default(), planned: Notify::default(), eviction }
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new(), start: clock::now(), due: BTreeMap::new() }
    }
}

impl Sessions {
    pub(in crate::tokio) fn enter(&self, session: &Arc<Session>) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.open.insert(id, Arc::downgrade(session));
        id
    }

    /// Removes the session `id`, which has ended.
    pub(in crate::tokio) fn leave(&self, id: u64) {
        self.lock().open.remove(&id);
    }

    /// Plans that the session `id` [checks the clock](Session::notify_task) at `due`, or up to a tick later.
    pub(in crate::tokio) fn plan(&self, id: u64, due: Instant) {
        let mut inner = self.lock();
        let tick = due.saturating_duration_since(inner.start).as_secs() / TICK.as_secs() + 1;
        let is_first = inner.due.first_key_value().is_none_or(|(&first, _)| tick < first);
        inner.due.entry(tick).or_default().push(id);
        drop(inner);
        if is_first {
            self.planned.notify_one();
        }
    }

    /// Notifies all sessions in time, so they need no timers for what is due much later.
    pub(in crate::tokio) async fn keep_time(&self) {
        loop {
            let next = self.notify_due();
            let planned = self.planned.notified();
            match next {
                Some(next) => {
                    let (mut due, mut planned) = (pin!(clock::wait_until(next)), pin!(planned));
                    poll_fn(|context| match planned.as_mut().poll(context) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => due.as_mut().poll(context),
                    })
                    .await;
                }
                None => planned.await,
            }
        }
    }

    /// Notifies the sessions that must check the clock now, and returns when the next ones must.
    fn notify_due(&self) -> Option<Instant> {
        let now = clock::now();
        let mut to_notify: Vec<(u64, Arc<Session>)> = Vec::new();
        let mut next = {
            let mut inner = self.lock();
            let tick = now.saturating_duration_since(inner.start).as_secs() / TICK.as_secs();
            while let Some(first) = inner.due.first_entry()
                && *first.key() <= tick
            {
                let ids = first.remove();
                to_notify.extend(ids.iter().filter_map(|&id| Some((id, inner.open.get(&id)?.upgrade()?))));
            }
            let next =
                inner.due.first_key_value().map(|(&tick, _)| TICK * u32::try_from(tick).unwrap_or(u32::MAX));
            next.and_then(|next| inner.start.checked_add(next))
        };
        // No session waits for another one that is busy.
        for (id, _) in to_notify.iter().filter(|(_, session)| !session.try_notify_task()) {
            self.plan(*id, now);
            next = next.into_iter().chain([now + TICK]).min();
        }
        next
    }

    /// Ends the session that has been idle longest, to free its permit for `newcomer`. Returns whether one was ended.
    pub(in crate::tokio) fn evict_idle(&self, newcomer: &Peer, whose: Whose) -> bool {
        self.eviction.evict_one(newcomer, whose, || self.open(), clock::now())
    }

    /// Lets all sessions finish the calls in flight, and then end.
    pub(in crate::tokio) fn drain(&self) {
        self.open().iter().for_each(|session| drain(session));
    }

    /// Ends all sessions. Calls in flight are answered with the code `cancelled`.
    pub(in crate::tokio) fn abort(&self) {
        self.open().iter().for_each(|session| abort(session));
    }

    fn open(&self) -> Vec<Arc<Session>> {
        self.lock().open.values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(in crate::tokio) fn drain(session: &Session) {
    session.end_subscriptions(&reply_error::stopping());
    session.goodbye(STOPPING);
}

pub(in crate::tokio) fn abort(session: &Session) {
    refuse(session, &reply_error::cancelled());
    session.close(End::Closed);
    // A session that ended before may linger.
    session.notify_task();
}

fn refuse(session: &Session, refusal: &ReplyError) {
    // Their handlers are dropped; only those that cannot be dropped count as leaked.
    session.refuse_all(refusal, &Default::default());
}

/// The precision of the clock.
const TICK: Duration = Duration::from_secs(1);

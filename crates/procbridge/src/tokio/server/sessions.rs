//! The sessions of a server, to be told of its end, and when it is time to look at them.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use ::tokio::sync::Notify;

use crate::blocking::router;
use crate::classic::server::Incoming;
use crate::limits::eviction::{MakingRoom, Whose};
use crate::limits::permits::Share;
use crate::net::socket;
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::session::Link;
use crate::session::state::{End, Hold, Seat};
use crate::tokio::clock;
use crate::tokio::server::server::{Shared, Ticket};
use crate::tokio::server::shutdown::Stage;
use crate::tokio::session_task::{Driver, Serves};
use crate::tokio::transport::Stream;

/// All sessions of a server.
#[derive(Debug)]
pub(in crate::tokio) struct Sessions {
    inner: Mutex<Inner>,
    /// Told when something is planned before everything else.
    planned: Notify,
    making_room: MakingRoom,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    open: HashMap<u64, Weak<Link>>,
    /// From when on ticks are counted.
    start: Instant,
    /// Which sessions are to be looked at when, in ticks.
    due: BTreeMap<u64, Vec<u64>>,
}

impl Default for Sessions {
    fn default() -> Self {
        let making_room = MakingRoom::new(clock::now());
        Self { inner: Mutex::default(), planned: Notify::default(), making_room }
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new(), start: clock::now(), due: BTreeMap::new() }
    }
}

impl Sessions {
    fn enter(&self, link: &Arc<Link>) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.open.insert(id, Arc::downgrade(link));
        id
    }

    /// The session `id` has ended.
    pub(in crate::tokio) fn leave(&self, id: u64) {
        self.lock().open.remove(&id);
    }

    /// Has the session `id` [look at the clock](Link::ring) at `due`, or up to a tick later.
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

    /// Keeps the time for all sessions, which need no timers for what is far away.
    pub(in crate::tokio) async fn keep_time(&self) {
        loop {
            let next = self.ring();
            let planned = self.planned.notified();
            match next {
                Some(next) => {
                    let (mut due, mut planned) = (pin!(clock::reach(next)), pin!(planned));
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

    /// Has the sessions look at the clock that are to do so now, and tells when others are.
    fn ring(&self) -> Option<Instant> {
        let now = clock::now();
        let mut rung: Vec<(u64, Arc<Link>)> = Vec::new();
        let mut next = {
            let mut inner = self.lock();
            let tick = now.saturating_duration_since(inner.start).as_secs() / TICK.as_secs();
            while let Some(first) = inner.due.first_entry()
                && *first.key() <= tick
            {
                let ids = first.remove();
                rung.extend(ids.iter().filter_map(|&id| Some((id, inner.open.get(&id)?.upgrade()?))));
            }
            let next =
                inner.due.first_key_value().map(|(&tick, _)| TICK * u32::try_from(tick).unwrap_or(u32::MAX));
            next.and_then(|next| inner.start.checked_add(next))
        };
        // None of them waits for another one that is busy.
        for (id, _) in rung.iter().filter(|(_, link)| !link.try_ring()) {
            self.plan(*id, now);
            next = next.into_iter().chain([now + TICK]).min();
        }
        next
    }

    /// Ends the session that has been idle longest, so that `newcomer` has its place. Tells whether one was ended.
    pub(in crate::tokio) fn make_room(&self, newcomer: &Peer, whose: Whose) -> bool {
        self.making_room.end_one(newcomer, whose, || self.open(), clock::now())
    }

    /// Has all sessions end with the calls that are in flight.
    pub(in crate::tokio) fn drain(&self) {
        self.open().iter().for_each(|link| drain(link));
    }

    /// Ends all sessions. Calls in flight are answered that they were cancelled.
    pub(in crate::tokio) fn abort(&self) {
        self.open().iter().for_each(|link| abort(link));
    }

    fn open(&self) -> Vec<Arc<Link>> {
        self.lock().open.values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to serve the session that a connection has become, in a task of its own.
pub(in crate::tokio) fn begin(
    shared: &Arc<Shared>,
    stream: Stream,
    incoming: Incoming,
    place: Share,
    busy: Ticket,
) {
    let (admission, peer) = (shared.admission.clone(), incoming.peer);
    let socket = match stream.into_watched() {
        Ok(socket) => socket,
        Err(error) => return admission.dropped(&peer, &error),
    };
    if matches!(peer, Peer::Tcp(_)) {
        socket::set_no_delay(&socket);
    }
    let (connection, bytes) = incoming.into_session();
    let hold = Hold {
        place: Some(place),
        session: admission.stats.sessions.open(),
        bytes: Some(bytes),
        answers: None,
    };
    let link = Link::new(connection, socket.socket().clone(), peer, admission, None, Seat::Driven, hold);
    // The HELLO goes out before any handler begins.
    link.flush();
    let id = shared.control.sessions.enter(&link);
    // Whoever ends the server finds the session from here on, or this finds that the server ends.
    if shared.control.has_reached(Stage::Draining) {
        drain(&link);
    }
    if shared.control.has_reached(Stage::Aborting) {
        abort(&link);
    }
    ::tokio::spawn(Driver::new(
        link,
        socket,
        Serves::Server { shared: shared.clone(), id, busy: Some(busy), _alive: shared.alive() },
    ));
}

fn drain(link: &Link) {
    link.end_subscriptions(&router::stopping());
    link.goodbye(STOPPING);
}

fn abort(link: &Link) {
    refuse(link, &router::cancelled());
    link.close(End::Closed);
    // One that has ended before may linger.
    link.ring();
}

fn refuse(link: &Link, refusal: &Refusal) {
    // Their handlers are dropped, and count as leaked only where they cannot be.
    link.refuse_all(refusal, &Default::default());
}

/// How exactly the time is kept.
const TICK: Duration = Duration::from_secs(1);
/// What sessions are told when the server stops.
const STOPPING: &str = "the server is stopping";

//! The hub of events: an event published under a topic goes to every subscriber with a matching pattern (PB-EVT-*).
//!
//! Publishing never waits. A slow subscriber's events queue; when its queue is full the oldest are dropped, and the
//! subscriber learns how many.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procbridge_proto::{CallId, Limits, Packet, code, member};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::server::ServerConfig;
use crate::error::{Error, ErrorKind};
use crate::events::event::{MAX_TOPIC, check_topic};
use crate::events::topic_index::Topics;
use crate::json::serialize;
use crate::reply_error::ReplyError;
use crate::reply_error::overloaded;
use crate::service::call::Call;
use crate::service::dispatch::guarded;
use crate::session::served_call::{ItemOutlet, ItemSource};
use crate::session::session::Session;

/// A hub that publishes events to its subscribers. Clones are the same hub; any thread or task may use it.
///
/// ```
/// use procbridge::{Client, Hub, Router, Server};
///
/// let hub = Hub::new();
/// let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().events(&hub))?;
///
/// let client = Client::connect(server.endpoint())?;
/// let mut builds = client.subscribe(["build.*"])?;
/// hub.publish("build.done", &42)?;
/// let event = builds.next().expect("an event")?;
/// assert_eq!((event.topic(), event.payload::<u32>()?), ("build.done", 42));
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    limits: Limits,
    queue: usize,
    /// Bytes of events in the queues of all subscribers, and the most there should be.
    queued: AtomicUsize,
    max_queued: usize,
}

/// The subscriptions of a hub. It is locked under the lock of a session; no other lock is taken under its own.
#[derive(Default)]
struct Registry {
    topics: Topics<Arc<Subscriber>>,
    /// The number of the last subscription.
    last: u64,
    subscriptions: usize,
    patterns: usize,
    /// How many patterns each session has, by the session's address in memory.
    shares: HashMap<usize, usize>,
}

/// One subscription.
pub(crate) struct Subscriber {
    hub: Weak<Inner>,
    /// Its number in the hub.
    number: u64,
    patterns: BTreeSet<String>,
    session: Weak<Session>,
    id: CallId,
    queue: Mutex<Queue>,
    /// Whether the confirmation was sent that the subscription is active; no event is sent before that.
    begun: AtomicBool,
}

/// The events that were not sent to a subscriber yet.
#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Published>>,
    bytes: usize,
    dropped: u64,
    has_ended: bool,
}

struct Published {
    topic: String,
    payload: Box<RawValue>,
}

impl Hub {
    /// Returns a hub without subscribers, which queues up to 1,024 events for each slow subscriber.
    pub fn new() -> Self {
        Self::with_queue(QUEUE)
    }

    /// Returns a hub that queues up to `events` for a slow subscriber. They take at most 32 MiB, and 256 MiB for all
    /// slow subscribers together. Beyond that the oldest are dropped, and the subscriber learns how many. 0 is raised
    /// to 1.
    pub fn with_queue(events: usize) -> Self {
        let inner = Inner {
            registry: Mutex::default(),
            limits: Limits::default(),
            queue: events.max(1),
            queued: AtomicUsize::new(0),
            max_queued: HUB_BYTES,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Publishes an event, and returns how many subscriptions match its topic. Never waits for a subscriber.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: the payload cannot be sent: not serialisable as JSON, or over 16 MiB. Or the topic has an empty
    ///   segment, a `*`, or over 256 bytes.
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, payload: &T) -> Result<usize, Error> {
        check_topic(topic)?;
        let mut text = Vec::new();
        serialize::write(&mut text, payload).map_err(Error::unsendable)?;
        let around = topic.len().saturating_mul(6).saturating_add(OVERHEAD);
        let limit = (self.inner.limits.max_body() as usize).saturating_sub(around);
        if text.len() > limit {
            let message = format!("an event of {} B exceeds the limit of {limit} B (max_body)", text.len());
            return Err(Error::unsent(ErrorKind::InvalidInput, message));
        }
        let payload = String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(payload) = payload else {
            return Err(Error::unsent(ErrorKind::InvalidInput, "the payload is not one JSON value"));
        };
        let registry = self.inner.registry();
        let (wanting, subscriptions) = (registry.topics.concerned(topic), registry.subscriptions);
        drop(registry);
        let event = Arc::new(Published { topic: topic.to_string(), payload });
        for subscriber in &wanting {
            subscriber.push(&self.inner, event.clone(), subscriptions);
        }
        Ok(wanting.len())
    }

    /// Returns how many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.inner.registry().subscriptions
    }

    /// Turns a call of `$/subscribe` into a subscription, or returns the answer that says why not.
    pub(crate) fn answer(&self, call: &Call, config: &ServerConfig) -> Option<Packet> {
        let refusal = guarded(|| self.accept(call)).err()?;
        Some(refusal.packet(call.version(), &config.limits))
    }

    fn accept(&self, call: &Call) -> Result<(), ReplyError> {
        let Some(session_call) = call.session_call().filter(|_| call.wants_items()) else {
            return Err(
                ReplyError::new("events need a session and a streamed call").with_code(code::INVALID_REQUEST)
            );
        };
        // No other member of the payload is read.
        let topics = call.payload().and_then(|wanted| member(wanted, "topics"));
        let topics = topics.and_then(|topics| serde_json::from_str(topics).ok());
        let topics: Vec<String> = topics.unwrap_or_default();
        // The patterns of a subscriber stay in memory, and each event is compared with them.
        let is_too_much =
            topics.len() > MAX_TOPICS || call.payload().is_some_and(|text| text.len() > MAX_WANTED);
        if topics.is_empty() || is_too_much || topics.iter().any(|pattern| pattern.len() > MAX_TOPIC) {
            let message =
                format!("\"topics\" must name 1 to {MAX_TOPICS} topics, each of at most {MAX_TOPIC} B");
            return Err(ReplyError::new(message).with_code(code::INVALID_PAYLOAD));
        }
        let session = Arc::downgrade(&session_call.session);
        let subscriber = self.inner.registry().enter(|number| Subscriber {
            hub: Arc::downgrade(&self.inner),
            number,
            patterns: topics.into_iter().collect(),
            session,
            id: session_call.id,
            queue: Mutex::default(),
            begun: AtomicBool::new(false),
        })?;
        let source: Arc<dyn ItemSource> = subscriber;
        session_call.session.subscribe(session_call.id, &source);
        Ok(())
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Enters a subscription, if the limits allow its patterns.
    fn enter(&mut self, make: impl FnOnce(u64) -> Subscriber) -> Result<Arc<Subscriber>, ReplyError> {
        let subscriber = Arc::new(make(self.last + 1));
        let more = subscriber.patterns.len();
        let own = self.shares.get(&subscriber.session()).copied().unwrap_or(0) + more;
        if own > SESSION_PATTERNS {
            return Err(overloaded("topics of subscriptions in a session", SESSION_PATTERNS, "topics"));
        }
        // The last permits are for sessions with few patterns.
        let limit = if own > FEW_PATTERNS { HUB_PATTERNS - RESERVED_PATTERNS } else { HUB_PATTERNS };
        if self.patterns + more > limit {
            return Err(overloaded("topics of subscriptions", HUB_PATTERNS, "topics"));
        }
        for (at, pattern) in subscriber.patterns.iter().enumerate() {
            if !self.topics.insert(pattern, subscriber.number, subscriber.clone()) {
                for pattern in subscriber.patterns.iter().take(at) {
                    self.topics.remove(pattern, subscriber.number);
                }
                let message = format!("too many different positions of \"*\" in topics, as in {pattern:?}");
                return Err(ReplyError::new(message).with_code(code::OVERLOADED));
            }
        }
        self.last += 1;
        self.subscriptions += 1;
        self.patterns += more;
        self.shares.insert(subscriber.session(), own);
        Ok(subscriber)
    }

    /// Removes a subscription.
    fn leave(&mut self, subscriber: &Subscriber) {
        for pattern in &subscriber.patterns {
            self.topics.remove(pattern, subscriber.number);
        }
        self.subscriptions -= 1;
        self.patterns -= subscriber.patterns.len();
        let session = subscriber.session();
        if let Some(share) = self.shares.get_mut(&session) {
            *share -= subscriber.patterns.len();
            if *share == 0 {
                self.shares.remove(&session);
            }
        }
    }
}

impl Subscriber {
    /// Returns a key of the session that subscribed. It is unique as long as this subscriber lives: the weak reference
    /// keeps the session's memory from being reused.
    fn session(&self) -> usize {
        self.session.as_ptr() as usize
    }

    /// Queues an event, and sends what can be sent. `subscriptions` is the number of them in the hub.
    fn push(self: &Arc<Self>, hub: &Inner, event: Arc<Published>, subscriptions: usize) {
        let Some(session) = self.session.upgrade() else { return self.end() };
        let mut queue = self.queue();
        if queue.has_ended {
            return;
        }
        hub.queued.fetch_add(event.size(), Ordering::Relaxed);
        queue.bytes += event.size();
        queue.events.push_back(event);
        let share = hub.max_queued / subscriptions.max(1);
        while queue.events.len() > hub.queue
            || (queue.bytes > QUEUE_BYTES && queue.events.len() > 1)
            || (queue.bytes > share && hub.queued.load(Ordering::Relaxed) > hub.max_queued)
        {
            let Some(lost) = queue.pop() else { break };
            hub.queued.fetch_sub(lost.size(), Ordering::Relaxed);
            queue.dropped += 1;
        }
        drop(queue);
        session.pump(self.id, &**self);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ItemSource for Subscriber {
    fn pump(&self, outlet: &mut dyn ItemOutlet, id: CallId) -> bool {
        let mut any = false;
        if !self.begun.load(Ordering::Acquire) {
            // A client that has the first item knows that it misses no event from now on.
            let first = Packet::item().finish(&Limits::default()).map(|item| outlet.send_item(id, item));
            any = matches!(first, Ok(Ok(())));
            self.begun.store(any, Ordering::Release);
        }
        if !self.begun.load(Ordering::Acquire) {
            return any;
        }
        let mut queue = self.queue();
        let before = queue.bytes;
        while !queue.events.is_empty() && outlet.may_send(id) {
            let dropped = queue.dropped;
            let Some(event) = queue.pop() else { break };
            queue.dropped = 0;
            let item = Packet::item().write(|out| event.write(out, dropped));
            let item = item.ok().and_then(|item| item.finish(&Limits::default()).ok());
            // An event beyond the subscriber's own limits counts as dropped.
            match item.map(|item| outlet.send_item(id, item)) {
                Some(Ok(())) => any = true,
                _ => queue.dropped = dropped + 1,
            }
        }
        let sent = before - queue.bytes;
        drop(queue);
        if sent > 0
            && let Some(hub) = self.hub.upgrade()
        {
            hub.queued.fetch_sub(sent, Ordering::Relaxed);
        }
        any
    }

    fn end(&self) {
        let mut queue = self.queue();
        if std::mem::replace(&mut queue.has_ended, true) {
            return;
        }
        let (events, bytes) = (std::mem::take(&mut queue.events), std::mem::take(&mut queue.bytes));
        drop(queue);
        drop(events);
        if let Some(hub) = self.hub.upgrade() {
            hub.queued.fetch_sub(bytes, Ordering::Relaxed);
            hub.registry().leave(self);
        }
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Arc<Published>> {
        let event = self.events.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }
}

impl Published {
    /// Appends the payload of the item that carries this event.
    fn write(&self, out: &mut Vec<u8>, dropped: u64) -> Result<(), serde_json::Error> {
        out.extend_from_slice(b"{\"topic\":");
        serialize::write(out, &self.topic)?;
        if dropped > 0 {
            out.extend_from_slice(format!(",\"dropped\":{dropped}").as_bytes());
        }
        out.extend_from_slice(b",\"payload\":");
        out.extend_from_slice(self.payload.get().as_bytes());
        out.push(b'}');
        Ok(())
    }

    fn size(&self) -> usize {
        self.topic.len() + self.payload.get().len()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("subscriptions", &self.subscriptions()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

/// How many events are queued for a slow subscriber.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// The most topics of one subscription, and the most bytes of its payload.
const MAX_TOPICS: usize = 256;
const MAX_WANTED: usize = 256 * 1024;
/// The most topics of all subscriptions of one session together, and of all sessions.
const SESSION_PATTERNS: usize = 4096;
const HUB_PATTERNS: usize = 65_536;
/// How many of these are reserved for sessions with at most [`FEW_PATTERNS`].
const RESERVED_PATTERNS: usize = 16_384;
const FEW_PATTERNS: usize = 64;
/// The most bytes of events queued for all slow subscribers together. Beyond that each keeps only its fair share.
const HUB_BYTES: usize = 256 * 1024 * 1024;
/// The bytes around topic and payload in an item.
const OVERHEAD: usize = 128;

#[cfg(test)]
mod tests;

//! Events to many: what is published under a topic goes to every subscriber whose patterns match it (PB-EVT-*).
//!
//! Publishing never waits. An event that a subscriber cannot take at once waits in the subscriber's queue; when that is
//! full the oldest go, and the subscriber is told how many.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procbridge_proto::{CallId, Limits, Packet, code};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::call::Call;
use crate::config::ServerConfig;
use crate::error::{Error, ErrorKind};
use crate::handler::payload;
use crate::json;
use crate::refusal::Refusal;
use crate::router::guarded;
use crate::session::link::Link;
use crate::session::state::State;

/// Publishes events to those who have subscribed. Clones are the same hub; it may be used from any thread or task.
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
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
    limits: Limits,
    queue: usize,
}

/// How calls of `$/subscribe` are answered, see [`Hub::answer`]. Behind a pointer, a program that has no hub has no code for
/// subscriptions either.
pub(crate) type Answer = fn(&Hub, &Call, &ServerConfig) -> Option<Packet>;

/// One subscription.
pub(crate) struct Subscriber {
    patterns: Vec<String>,
    link: Weak<Link>,
    id: CallId,
    limit: usize,
    queue: Mutex<Queue>,
    /// Whether it was told that it is in force; before that nothing is sent.
    begun: AtomicBool,
    ended: AtomicBool,
    /// Behind a pointer, as [`Answer`] is.
    send: fn(&Self, &mut State, CallId) -> bool,
}

/// The events that a subscriber has not been sent.
#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Published>>,
    bytes: usize,
    dropped: u64,
}

struct Published {
    topic: String,
    payload: Box<RawValue>,
}

impl Hub {
    /// A hub without subscribers, which keeps up to 1,024 events for each that is slow.
    pub fn new() -> Self {
        Self::with_queue(QUEUE)
    }

    /// A hub that keeps up to `events` for a subscriber that is slow, and at most 32 MiB of them. Beyond that the oldest
    /// are dropped, and the subscriber is told how many.
    pub fn with_queue(events: usize) -> Self {
        let inner = Inner { subscribers: Mutex::default(), limits: Limits::default(), queue: events.max(1) };
        Self { inner: Arc::new(inner) }
    }

    /// Publishes an event, and tells how many have subscribed to its topic. Never waits for any of them.
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: the payload cannot be sent: not serialisable as JSON, or over 16 MiB.
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, payload: &T) -> Result<usize, Error> {
        let mut text = Vec::new();
        json::write(&mut text, payload).map_err(Error::unsendable)?;
        let around = topic.len().saturating_mul(6).saturating_add(OVERHEAD);
        let limit = (self.inner.limits.max_body() as usize).saturating_sub(around);
        if topic.len() > MAX_TOPIC || text.len() > limit {
            let message = format!("an event of {} B exceeds the limit of {limit} B (max_body)", text.len());
            return Err(Error::unsent(ErrorKind::InvalidInput, message));
        }
        let payload = String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(payload) = payload else {
            return Err(Error::unsent(ErrorKind::InvalidInput, "the payload is not one JSON value"));
        };
        let mut subscribers = self.subscribers();
        subscribers.retain(|subscriber| !subscriber.ended.load(Ordering::Acquire));
        let wanting: Vec<_> =
            subscribers.iter().filter(|subscriber| subscriber.wants(topic)).cloned().collect();
        drop(subscribers);
        let event = Arc::new(Published { topic: topic.to_string(), payload });
        for subscriber in &wanting {
            subscriber.push(event.clone());
        }
        Ok(wanting.len())
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        let mut subscribers = self.subscribers();
        subscribers.retain(|subscriber| !subscriber.ended.load(Ordering::Acquire));
        subscribers.len()
    }

    /// Makes a call of `$/subscribe` a subscription, or gives the answer that says why not.
    pub(crate) fn answer(&self, call: &Call, config: &ServerConfig) -> Option<Packet> {
        let refusal = guarded(|| self.accept(call)).err()?;
        Some(refusal.packet(call.version(), &config.limits))
    }

    fn accept(&self, call: &Call) -> Result<(), Refusal> {
        let Some(place) = call.place().filter(|_| call.wants_items()) else {
            return Err(
                Refusal::new("events need a session and a streamed call").with_code(code::INVALID_REQUEST)
            );
        };
        let mut wanted: HashMap<String, Value> = payload(call)?;
        let topics = wanted.remove("topics").and_then(|topics| serde_json::from_value(topics).ok());
        let topics: Vec<String> = topics.unwrap_or_default();
        // What a subscriber wants is held and looked through with each event.
        let is_too_much =
            topics.len() > MAX_TOPICS || call.payload().is_some_and(|text| text.len() > MAX_WANTED);
        if topics.is_empty() || is_too_much || topics.iter().any(|pattern| pattern.len() > MAX_TOPIC) {
            let message =
                format!("\"topics\" must name 1 to {MAX_TOPICS} topics, each of at most {MAX_TOPIC} B");
            return Err(Refusal::new(message).with_code(code::INVALID_PAYLOAD));
        }
        let subscriber = Arc::new(Subscriber {
            patterns: topics,
            link: Arc::downgrade(&place.link),
            id: place.id,
            limit: self.inner.queue,
            queue: Mutex::default(),
            begun: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            send: Subscriber::send,
        });
        let mut subscribers = self.subscribers();
        if subscribers.len() == subscribers.capacity() {
            // Before the list grows. Nobody may ever publish, which is when else it is cleared.
            subscribers.retain(|subscriber| !subscriber.ended.load(Ordering::Acquire));
        }
        subscribers.push(subscriber.clone());
        drop(subscribers);
        place.link.subscribe(place.id, &subscriber);
        Ok(())
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.inner.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    fn wants(&self, topic: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, topic))
    }

    fn push(self: &Arc<Self>, event: Arc<Published>) {
        let mut queue = self.queue();
        queue.bytes += event.size();
        queue.events.push_back(event);
        while queue.events.len() > self.limit || (queue.bytes > QUEUE_BYTES && queue.events.len() > 1) {
            queue.pop();
            queue.dropped += 1;
        }
        drop(queue);
        match self.link.upgrade() {
            Some(link) => link.pump(self.id, self),
            None => self.end(),
        }
    }

    /// Sends what there is credit and room for, and tells whether that was anything. `id` is the subscribing call.
    pub(super) fn pump(&self, state: &mut State, id: CallId) -> bool {
        (self.send)(self, state, id)
    }

    fn send(&self, state: &mut State, id: CallId) -> bool {
        let mut any = false;
        if !self.begun.load(Ordering::Acquire) {
            // Whoever has the first item knows that no event is missed from now on.
            let first = Packet::item().finish(&Limits::default()).map(|item| state.connection.item(id, item));
            any = matches!(first, Ok(Ok(())));
            self.begun.store(any, Ordering::Release);
        }
        let mut queue = self.queue();
        if !self.begun.load(Ordering::Acquire) {
            return any;
        }
        while !queue.events.is_empty() && !state.is_crowded() && state.connection.may_send_item(id) {
            let dropped = queue.dropped;
            let Some(event) = queue.pop() else { break };
            queue.dropped = 0;
            let item = Packet::item().write(|out| event.write(out, dropped));
            let item = item.ok().and_then(|item| item.finish(&Limits::default()).ok());
            // One that the subscriber's own limits do not allow counts as lost.
            match item.map(|item| state.connection.item(id, item)) {
                Some(Ok(())) => any = true,
                _ => queue.dropped = dropped + 1,
            }
        }
        any
    }

    /// The subscription is over; the hub forgets it with the next event.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
        json::write(out, &self.topic)?;
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

/// Whether `topic` is one that `pattern` means: `*` stands for one segment between dots, and at the end for one or more.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let mut topic = topic.split('.');
    let mut pattern = pattern.split('.').peekable();
    while let Some(wanted) = pattern.next() {
        let Some(segment) = topic.next() else { return false };
        if wanted == "*" {
            if pattern.peek().is_none() {
                return true;
            }
        } else if wanted != segment {
            return false;
        }
    }
    topic.next().is_none()
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

/// Events kept for a slow subscriber.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
const MAX_TOPIC: usize = 256;
/// Topics of one subscription, and the most that its payload may hold.
const MAX_TOPICS: usize = 256;
const MAX_WANTED: usize = 256 * 1024;
/// What stands around topic and payload in an item.
const OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_at_the_end_any_number() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b.c", true),
            ("a.*", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", true),
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
            ("*.b", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.b.c", false),
            ("a*", "ab", false),
            ("A", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }
}

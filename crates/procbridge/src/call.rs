//! What a handler can know about the call that it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use procbridge_proto::{Limits, Packet, Request, Version};
use serde::de::DeserializeOwned;

use crate::budget::Share;
use crate::config::ServerConfig;
use crate::peer::Peer;
use crate::session::serving::Place;
use crate::token::Token;
use crate::trace::TraceContext;

/// A call that is being answered. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    request: Request,
    peer: Peer,
    deadline: Option<Instant>,
    limits: Limits,
    cancelled: AtomicBool,
    /// Whether it was answered without its handler.
    abandoned: AtomicBool,
    place: Option<Place>,
    trace: Option<Arc<TraceContext>>,
    /// The bytes of the request, as long as anybody holds the call; on a connection of its own that holds them.
    _held: Option<Share>,
}

impl Call {
    /// A call on a connection of its own, whose time begins `now`. The earlier of the caller's own limit and the server's
    /// holds.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig, now: Instant) -> Self {
        Self::at(request, peer, config, None, None, now)
    }

    /// A call on a session, whose bytes are `held`, and whose time begins `now`.
    pub(crate) fn of_session(
        request: Request,
        peer: Peer,
        config: &ServerConfig,
        place: Place,
        held: Share,
        now: Instant,
    ) -> Self {
        Self::at(request, peer, config, Some(place), Some(held), now)
    }

    fn at(
        request: Request,
        peer: Peer,
        config: &ServerConfig,
        place: Option<Place>,
        held: Option<Share>,
        now: Instant,
    ) -> Self {
        let asked = request.timeout_ms().map(Duration::from_millis);
        // A stream may go on for as long as its caller wants.
        let limit = config.handler_timeout.filter(|_| !request.wants_items());
        let limit = [asked, limit].into_iter().flatten().min();
        let deadline = limit.and_then(|limit| now.checked_add(limit));
        let (cancelled, abandoned) = (AtomicBool::new(false), AtomicBool::new(false));
        let limits = config.limits;
        let trace = TraceContext::read(request.meta());
        let inner =
            Inner { request, peer, deadline, limits, cancelled, abandoned, place, trace, _held: held };
        Self { inner: Arc::new(inner) }
    }

    /// The method's name; absent in a request that names none.
    pub fn method(&self) -> Option<&str> {
        self.inner.request.method()
    }

    /// The payload as JSON text, exactly as it was sent; absent if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        self.inner.request.payload()
    }

    /// What the caller sent along with the call: an object, as JSON text. W3C trace context travels in it.
    pub fn meta(&self) -> Option<&str> {
        self.inner.request.meta()
    }

    /// One entry of [`meta`](Self::meta), if it is there and a `T`.
    pub fn meta_value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let meta: serde_json::Map<String, serde_json::Value> = serde_json::from_str(self.meta()?).ok()?;
        serde_json::from_value(meta.get(key)?.clone()).ok()
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// Whether the caller takes the items of a stream one by one.
    pub fn wants_items(&self) -> bool {
        self.inner.request.wants_items()
    }

    /// Whether the caller waits for no answer.
    pub fn is_one_way(&self) -> bool {
        self.inner.request.is_one_way()
    }

    /// The trace that this call belongs to, as its caller says: `traceparent` of W3C Trace Context. Calls that a handler
    /// makes carry it on. Absent if the caller says none, or nothing of the right form.
    pub fn traceparent(&self) -> Option<&str> {
        self.trace().map(|trace| trace.parent())
    }

    /// What tracing systems add to [`traceparent`](Self::traceparent): `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.trace().and_then(|trace| trace.state())
    }

    /// When the caller will have been told that this took too long: the earlier of the caller's own limit and the
    /// server's [`handler_timeout`](crate::ServerConfig::with_handler_timeout), which does not hold for streams. Absent
    /// if there is neither.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.deadline
    }

    /// How long that is from now; zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more: the caller has cancelled the call or is gone, the deadline has
    /// passed, or the server's time to stop is over. A handler that runs long should look from time to time, and return
    /// when it says so.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Relaxed)
    }

    /// Whether the caller brought this secret.
    pub(crate) fn has_token(&self, secret: &Token) -> bool {
        secret.is(&self.inner.request.token().unwrap_or_default())
    }

    pub(crate) fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Relaxed);
    }

    /// The call has been answered without its handler, which is `leaked` until it [ends](Self::end_handler).
    pub(crate) fn abandon(&self, leaked: &AtomicUsize) {
        leaked.fetch_add(1, Ordering::Relaxed);
        self.inner.abandoned.store(true, Ordering::Release);
        self.cancel();
    }

    /// The handler has ended.
    pub(crate) fn end_handler(&self, leaked: &AtomicUsize) {
        if self.inner.abandoned.swap(false, Ordering::AcqRel) {
            leaked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn trace(&self) -> Option<&Arc<TraceContext>> {
        self.inner.trace.as_ref()
    }

    pub(crate) fn version(&self) -> Version {
        self.inner.request.version()
    }

    /// What an answer may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Where this call is on its session, if it came on one.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.inner.place.as_ref()
    }

    /// `packet` as it answers this call: compressed if the call was.
    pub(crate) fn in_kind(&self, packet: Packet) -> Packet {
        match self.inner.request.codec() {
            Some(codec) => packet.compressed(codec),
            None => packet,
        }
    }
}

#[cfg(test)]
impl Call {
    /// A call of nobody's, with this body.
    pub(crate) fn of(body: &str) -> Self {
        use procbridge_proto::{Connection, Event, Limits};

        let mut packet = b"pb\x01\x01\0\0\0".to_vec();
        packet.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        packet.extend(body.as_bytes());
        let mut connection = Connection::server(Limits::default());
        connection.receive(&packet);
        let Some(Event::Request { request, .. }) = connection.poll_event() else { panic!("{body}") };
        let peer = Peer::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        Self::new(request, peer, &ServerConfig::new(), Instant::now())
    }
}

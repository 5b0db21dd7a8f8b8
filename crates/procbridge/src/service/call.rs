//! What a handler can know about the call that it answers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use procbridge_proto::{Codec, Limits, Packet, Request, Unread, UnreadRequest, Version, code, member};
use serde::de::DeserializeOwned;

use crate::blocking::router;
use crate::config::server::ServerConfig;
use crate::config::token::Token;
use crate::limits::admission::Admission;
use crate::limits::permits::Permit;
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::session::Session;
use crate::session::incoming_calls::{PreparedReply, SessionCall};
use crate::telemetry::trace_context::TraceContext;

/// A call that is being answered. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Set at once, unless the request is one of those that are read outside the session's lock.
    said: OnceLock<Result<Content, Box<Refusal>>>,
    arrived: Mutex<Option<UnreadRequest>>,
    version: Version,
    is_one_way: bool,
    wants_items: bool,
    codec: Option<Codec>,
    peer: Peer,
    /// When the server's own limit is over, until what the caller says is known.
    first_deadline: Option<Instant>,
    began: Instant,
    limits: Limits,
    cancelled: AtomicBool,
    /// Whether it was answered without its handler.
    abandoned: AtomicBool,
    session_call: Option<SessionCall>,
    /// The bytes of the request, as long as anybody holds the call; on a connection of its own that holds them.
    _held: Option<Permit>,
}

/// What a request says.
#[derive(Debug)]
struct Content {
    request: Request,
    deadline: Option<Instant>,
    trace: Option<Arc<TraceContext>>,
}

impl Call {
    /// A call on a connection of its own, whose time begins `now`. The earlier of the caller's own limit and the server's
    /// holds.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig, now: Instant) -> Self {
        Self::at(ReceivedRequest::Read(request), peer, config.handler_timeout, config, None, None, now)
    }

    /// A call on a session, whose bytes are `held`, and whose time begins `now`.
    pub(crate) fn of_session(
        arrived: ReceivedRequest<Request>,
        peer: Peer,
        admission: &Admission,
        session_call: SessionCall,
        held: Option<Permit>,
        now: Instant,
    ) -> Self {
        let config = &admission.config;
        let limit = match &arrived {
            ReceivedRequest::Read(request) => handler_timeout(request, admission),
            ReceivedRequest::Unread(_) => config.handler_timeout,
        };
        Self::at(arrived, peer, limit, config, Some(session_call), held, now)
    }

    fn at(
        arrived: ReceivedRequest<Request>,
        peer: Peer,
        limit: Option<Duration>,
        config: &ServerConfig,
        session_call: Option<SessionCall>,
        held: Option<Permit>,
        began: Instant,
    ) -> Self {
        let first_deadline = limit.and_then(|limit| began.checked_add(limit));
        let (version, is_one_way, wants_items, codec) = match &arrived {
            ReceivedRequest::Read(request) => {
                (request.version(), request.is_one_way(), request.wants_items(), request.codec())
            }
            ReceivedRequest::Unread(request) => {
                (Version::V1_1, request.is_one_way(), request.wants_items(), request.codec())
            }
        };
        let (said, unread) = match arrived {
            ReceivedRequest::Read(request) => (OnceLock::from(Ok(Content::new(request, limit, began))), None),
            ReceivedRequest::Unread(request) => (OnceLock::new(), Some(request)),
        };
        let inner = Inner {
            said,
            arrived: Mutex::new(unread),
            version,
            is_one_way,
            wants_items,
            codec,
            peer,
            first_deadline,
            began,
            limits: config.limits,
            cancelled: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            session_call,
            _held: held,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the size of the request, if nothing of it has been inflated or checked.
    pub(crate) fn unread(&self) -> Option<usize> {
        if self.inner.said.get().is_some() {
            return None;
        }
        self.arrived().as_ref().map(UnreadRequest::size)
    }

    /// Inflates and checks the request, if nothing has: it takes time, and needs no lock of the session.
    ///
    /// # Errors
    ///
    /// The request cannot be read, or its time is over. That is the answer.
    pub(crate) fn read(&self, admission: &Admission) -> Result<(), Refusal> {
        self.read_ahead(admission);
        match self.inner.said.get() {
            Some(Err(refusal)) => Err((**refusal).clone()),
            _ => Ok(()),
        }
    }

    /// The same, where the answer is given later.
    pub(crate) fn read_ahead(&self, admission: &Admission) {
        let Some(unread) = self.arrived().take() else { return };
        let said = match unread.read() {
            Ok(request) => {
                let limit = handler_timeout(&request, admission);
                Ok(Content::new(request, limit, self.inner.began))
            }
            Err(error) => Err(match error.answer() {
                Some(answer) => Refusal::new(answer.message).with_code(answer.code),
                None => Refusal::new("").with_code(code::INVALID_REQUEST),
            }),
        };
        let is_late = |said: &Content| said.deadline.is_some_and(|deadline| deadline <= admission.now());
        let said = match said {
            Ok(said) if is_late(&said) => Err(router::timed_out()),
            said => said,
        };
        let _ = self.inner.said.set(said.map_err(Box::new));
    }

    fn arrived(&self) -> MutexGuard<'_, Option<UnreadRequest>> {
        self.inner.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self) -> Option<&Request> {
        self.content().map(|said| &said.request)
    }

    fn content(&self) -> Option<&Content> {
        self.inner.said.get()?.as_ref().ok()
    }

    /// The method's name; absent in a request that names none.
    pub fn method(&self) -> Option<&str> {
        self.request().and_then(Request::method)
    }

    /// The payload as JSON text, exactly as it was sent; absent if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        self.request().and_then(Request::payload)
    }

    /// What the caller sent along with the call: an object, as JSON text. W3C trace context travels in it.
    pub fn meta(&self) -> Option<&str> {
        self.request().and_then(Request::meta)
    }

    /// One entry of [`meta`](Self::meta), if it is there and a `T`. The others are not looked at: none of them can hide
    /// it. Of a key that stands twice the last entry counts.
    pub fn meta_value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(member(self.meta()?, key)?).ok()
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// Whether the caller takes the items of a stream one by one.
    pub fn wants_items(&self) -> bool {
        self.inner.wants_items
    }

    /// Whether the caller waits for no answer.
    pub fn is_one_way(&self) -> bool {
        self.inner.is_one_way
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
        self.content().map_or(self.inner.first_deadline, |said| said.deadline)
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
        secret.is(&self.request().and_then(Request::token).unwrap_or_default())
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
        self.content().and_then(|said| said.trace.as_ref())
    }

    pub(crate) fn version(&self) -> Version {
        self.inner.version
    }

    /// What an answer may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Where this call is on its session, if it came on one.
    pub(crate) fn session_call(&self) -> Option<&SessionCall> {
        self.inner.session_call.as_ref()
    }

    /// The answer to this call with the space that it takes, or the refusal where there is none.
    pub(crate) fn prepare(&self, packet: Packet, session: &Session) -> PreparedReply {
        // One that nobody gets is not queued.
        if self.is_one_way() {
            return packet.into();
        }
        match session.prepare(packet) {
            Ok(answer) => answer.map(|packet| self.matching_version(packet)),
            Err(refusal) => refusal.packet(self.version(), &self.limits()).into(),
        }
    }

    /// `packet` as it answers this call: compressed if the call was.
    pub(crate) fn matching_version(&self, packet: Packet) -> Packet {
        // A caller need not be able to read what it can write.
        match (self.inner.codec, &self.inner.session_call) {
            (Some(codec), Some(session_call)) if session_call.session.reads(codec) => {
                packet.compressed(codec)
            }
            _ => packet,
        }
    }
}

impl Content {
    fn new(request: Request, limit: Option<Duration>, began: Instant) -> Self {
        let asked = request.timeout_ms().map(Duration::from_millis);
        let limit = [asked, limit].into_iter().flatten().min();
        let deadline = limit.and_then(|limit| began.checked_add(limit));
        let trace = TraceContext::read(request.meta());
        Self { request, deadline, trace }
    }
}

/// Returns the server's limit for the handler of `request`. Only the method decides whether it streams: a flag of the
/// caller does not.
fn handler_timeout(request: &Request, admission: &Admission) -> Option<Duration> {
    let is_open_ended = request.wants_items() && admission.is_stream(request.method());
    admission.config.handler_timeout.filter(|_| !is_open_ended)
}

/// A message as the core hands it out.
#[derive(Debug)]
pub(crate) enum ReceivedRequest<M> {
    Read(M),
    Unread(Unread<M>),
}

impl ReceivedRequest<Request> {
    /// Bytes of its text, as far as that is known.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Read(request) => request.size(),
            Self::Unread(request) => request.size().max(request.arrived()),
        }
    }

    /// Whether the caller wants no answer.
    pub(crate) fn is_one_way(&self) -> bool {
        match self {
            Self::Read(request) => request.is_one_way(),
            Self::Unread(request) => request.is_one_way(),
        }
    }

    /// The method's name, where the text has been read.
    pub(crate) fn method(&self) -> Option<&str> {
        match self {
            Self::Read(request) => request.method(),
            Self::Unread(_) => None,
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

//! What a handler can know about the call that it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Limits, Packet, Request, Version, member};
use serde::de::DeserializeOwned;

use crate::config::server::ServerConfig;
use crate::config::token::Token;
use crate::peer::Peer;
use crate::session::Session;
use crate::session::call_state::CallState;
use crate::session::served_call::PreparedReply;
use crate::telemetry::trace_context::TraceContext;

/// A call that is being answered. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call {
    state: Arc<CallState>,
    /// Where its answer goes, if it came on a session.
    session_call: Option<SessionCall>,
}

/// Where the answer to a call goes.
#[derive(Clone, Debug)]
pub(crate) struct SessionCall {
    pub(crate) session: Arc<Session>,
    pub(crate) id: CallId,
}

impl Call {
    /// A call on a connection of its own, whose time begins `now`. The earlier of the caller's own limit and the server's
    /// holds.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig, now: Instant) -> Self {
        Self { state: Arc::new(CallState::new(request, peer, config, now)), session_call: None }
    }

    /// A call that came on `session`.
    pub(crate) fn on(session: Arc<Session>, id: CallId, state: Arc<CallState>) -> Self {
        Self { state, session_call: Some(SessionCall { session, id }) }
    }

    /// What the session and the handler share of it.
    pub(crate) fn state(&self) -> &Arc<CallState> {
        &self.state
    }

    /// The method's name; absent in a request that names none.
    pub fn method(&self) -> Option<&str> {
        self.state.method()
    }

    /// The payload as JSON text, exactly as it was sent; absent if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        self.state.request().and_then(Request::payload)
    }

    /// What the caller sent along with the call: an object, as JSON text. W3C trace context travels in it.
    pub fn meta(&self) -> Option<&str> {
        self.state.request().and_then(Request::meta)
    }

    /// One entry of [`meta`](Self::meta), if it is there and a `T`. The others are not looked at: none of them can hide
    /// it. Of a key that stands twice the last entry counts.
    pub fn meta_value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(member(self.meta()?, key)?).ok()
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.state.peer
    }

    /// Whether the caller takes the items of a stream one by one.
    pub fn wants_items(&self) -> bool {
        self.state.wants_items
    }

    /// Whether the caller waits for no answer.
    pub fn is_one_way(&self) -> bool {
        self.state.is_one_way
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
        self.state.deadline()
    }

    /// How long that is from now; zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more: the caller has cancelled the call or is gone, the deadline has
    /// passed, or the server's time to stop is over. A handler that runs long should look from time to time, and return
    /// when it says so.
    pub fn is_cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    /// Whether the caller brought this secret.
    pub(crate) fn has_token(&self, secret: &Token) -> bool {
        secret.is(&self.state.request().and_then(Request::token).unwrap_or_default())
    }

    pub(crate) fn trace(&self) -> Option<&Arc<TraceContext>> {
        self.state.content().and_then(|said| said.trace.as_ref())
    }

    pub(crate) fn version(&self) -> Version {
        self.state.version
    }

    /// What an answer may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.state.limits
    }

    /// Where this call is on its session, if it came on one.
    pub(crate) fn session_call(&self) -> Option<&SessionCall> {
        self.session_call.as_ref()
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
        match (self.state.codec, &self.session_call) {
            (Some(codec), Some(session_call)) if session_call.session.reads(codec) => {
                packet.compressed(codec)
            }
            _ => packet,
        }
    }
}

#[cfg(test)]
impl Call {
    /// A call of nobody's, with this body.
    pub(crate) fn of(body: &str) -> Self {
        use procbridge_proto::{Connection, Event};

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

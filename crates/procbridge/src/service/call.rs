//! A call as its handler sees it.

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

/// A call that a handler answers. Clones are the same call.
#[derive(Clone, Debug)]
pub struct Call {
    state: Arc<CallState>,
    /// The session that the call came on, if any.
    session_call: Option<SessionCall>,
}

/// The session and id by which a call is answered.
#[derive(Clone, Debug)]
pub(crate) struct SessionCall {
    pub(crate) session: Arc<Session>,
    pub(crate) id: CallId,
}

impl Call {
    /// Returns a call on a connection of its own, which arrived at `now`. Its deadline is the earlier of the caller's
    /// timeout and the server's.
    pub(crate) fn new(request: Request, peer: Peer, config: &ServerConfig, now: Instant) -> Self {
        Self { state: Arc::new(CallState::new(request, peer, config, now)), session_call: None }
    }

    /// Returns a call that came on `session`.
    pub(crate) fn on(session: Arc<Session>, id: CallId, state: Arc<CallState>) -> Self {
        Self { state, session_call: Some(SessionCall { session, id }) }
    }

    /// Returns the state that the session and the handler share.
    pub(crate) fn state(&self) -> &Arc<CallState> {
        &self.state
    }

    /// Returns the method's name; `None` if the request names none.
    pub fn method(&self) -> Option<&str> {
        self.state.method()
    }

    /// Returns the payload as JSON text, exactly as it was sent; `None` if the request has none or `null`.
    pub fn payload(&self) -> Option<&str> {
        self.state.request().and_then(Request::payload)
    }

    /// Returns the metadata that the caller sent with the call: an object, as JSON text. W3C trace context is part of
    /// it.
    pub fn meta(&self) -> Option<&str> {
        self.state.request().and_then(Request::meta)
    }

    /// Returns one entry of [`meta`](Self::meta), if it exists and is a `T`. Other entries are not read, so none of
    /// them can hide it. If a key occurs twice, the last entry counts.
    pub fn meta_value<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(member(self.meta()?, key)?).ok()
    }

    /// Returns the calling peer.
    pub fn peer(&self) -> &Peer {
        &self.state.peer
    }

    /// Whether the caller takes the items of a stream one by one.
    pub fn wants_items(&self) -> bool {
        self.state.wants_items
    }

    /// Whether the call is one-way: its caller waits for no answer.
    pub fn is_one_way(&self) -> bool {
        self.state.is_one_way
    }

    /// Returns the trace that this call belongs to, as its caller states it: `traceparent` of W3C Trace Context. Calls
    /// that a handler makes carry it on. `None` if the caller states none, or nothing of the right form.
    pub fn traceparent(&self) -> Option<&str> {
        self.trace().map(|trace| trace.parent())
    }

    /// Returns what tracing systems add to [`traceparent`](Self::traceparent): `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.trace().and_then(|trace| trace.state())
    }

    /// Returns the deadline at which the caller gives up or the server answers with a timeout. It is the earlier of the
    /// caller's own timeout and the server's [`handler_timeout`](crate::ServerConfig::with_handler_timeout), which does
    /// not apply to streams. `None` if there is neither.
    pub fn deadline(&self) -> Option<Instant> {
        self.state.deadline()
    }

    /// Returns the time left until the deadline; zero once it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the answer is no longer needed: the caller has cancelled the call or disconnected, or the deadline or
    /// the server's drain timeout has passed. A long-running handler should check from time to time, and return when
    /// this is true.
    pub fn is_cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    /// Whether the caller sent this token.
    pub(crate) fn has_token(&self, secret: &Token) -> bool {
        secret.is(&self.state.request().and_then(Request::token).unwrap_or_default())
    }

    pub(crate) fn trace(&self) -> Option<&Arc<TraceContext>> {
        self.state.content().and_then(|said| said.trace.as_ref())
    }

    pub(crate) fn version(&self) -> Version {
        self.state.version
    }

    /// Returns the limits of an answer.
    pub(crate) fn limits(&self) -> Limits {
        self.state.limits
    }

    /// Returns the session and id of this call, if it came on a session.
    pub(crate) fn session_call(&self) -> Option<&SessionCall> {
        self.session_call.as_ref()
    }

    /// Returns the answer to this call with the permit for its bytes, or the refusal if there is none.
    pub(crate) fn prepare(&self, packet: Packet, session: &Session) -> PreparedReply {
        // The answer to a one-way call is not queued.
        if self.is_one_way() {
            return packet.into();
        }
        match session.prepare(packet) {
            Ok(answer) => answer.map(|packet| self.matching_version(packet)),
            Err(refusal) => refusal.packet(self.version(), &self.limits()).into(),
        }
    }

    /// Returns `packet` as it answers this call: compressed if the call was.
    pub(crate) fn matching_version(&self, packet: Packet) -> Packet {
        // A caller that writes a codec need not be able to read it.
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
    /// Returns a call without a caller, with this body.
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

//! Turns what a caller gives into a packet, and what a server answers into a result; the same for both faces.

use std::collections::VecDeque;
use std::time::Duration;

use procbridge_proto::{
    CallId, Envelope, Good, Misuse, Packet, ProtocolError, Response, Settings, Version, code,
};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::client::meta::{Meta, outgoing_meta};
use crate::config::client::{ClientConfig, SessionMode};
use crate::config::token::Token;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Outcome, Sent};
use crate::json::parse;
use crate::json::raw_value::raw_value;
use crate::json::serialize;
use crate::session::CallEnd;
use crate::session::end::End;
use crate::session::session::{BeginError, Session};

/// The options of a call, besides its payload.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) meta: Meta,
    pub(crate) is_idempotent: bool,
    pub(crate) form: ResultForm,
    /// Whether the call needs a session, whatever the client's setting is.
    pub(crate) needs_session: bool,
}

/// The form of a call's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResultForm {
    /// One result.
    #[default]
    Result,
    /// No answer.
    OneWay,
    /// Items, and a result.
    Stream,
}

/// Refuses an endpoint to which no client can connect.
pub(crate) fn check_endpoint(endpoint: &Endpoint) -> Result<(), Error> {
    if endpoint.port() != Some(0) {
        return Ok(());
    }
    let message = format!("cannot connect to {endpoint}: port 0 is for servers, which are given a free port");
    Err(Error::unsent(ErrorKind::InvalidEndpoint, message))
}

/// Refuses a call whose timeout is zero: nothing of it is sent.
pub(crate) fn check_time(options: &CallOptions) -> Result<(), Error> {
    match options.timeout {
        Some(limit) if limit.is_zero() => Err(Error::timed_out(limit, Outcome::NotSent)),
        _ => Ok(()),
    }
}

/// Returns the packet of a call.
pub(crate) fn packet<P: Serialize + ?Sized>(
    config: &ClientConfig,
    method: Option<&str>,
    payload: Option<&P>,
    options: &CallOptions,
) -> Result<Packet, Error> {
    let milliseconds = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
    // A call that a handler makes belongs to the trace of the call that it answers.
    let meta = outgoing_meta(&options.meta);
    let envelope = Envelope {
        timeout_ms: options.timeout.map(milliseconds),
        meta: meta.as_deref(),
        token: config.token.as_ref().map(Token::text),
    };
    let invalid =
        |error| Error::unsent(ErrorKind::InvalidInput, format!("the metadata cannot be sent: {error}"));
    let mut packet = Packet::request_with(config.version, method, &envelope).map_err(invalid)?;
    match options.form {
        ResultForm::Result => {}
        ResultForm::OneWay => packet = packet.one_way(),
        ResultForm::Stream => packet = packet.stream(),
    }
    if let Some(payload) = payload {
        packet = packet.write(|out| serialize::write(out, payload)).map_err(Error::unsendable)?;
    }
    packet.finish(&config.limits).map_err(Error::misuse)
}

/// Returns the settings that a client offers with a new connection, if it offers a session.
pub(crate) fn offer(config: &ClientConfig, is_serving: bool) -> Option<Settings> {
    if config.version != Version::V1_1 || config.sessions == SessionMode::Off {
        return None;
    }
    let settings = config.session_settings.clone();
    Some(if is_serving { settings.with_max_calls(config.session_calls) } else { settings })
}

/// Returns `packet` as it is sent on a session.
pub(crate) fn for_session(config: &ClientConfig, session: &Session, packet: Packet) -> Packet {
    match config.compression {
        Some(codec) if session.reads(codec) => packet.compressed(codec),
        _ => packet,
    }
}

/// Returns the result in a response.
pub(crate) fn result<R: DeserializeOwned>(response: &Response) -> Result<R, Error> {
    match response {
        Response::Good(good) => parsed(good),
        Response::Bad(bad) => Err(Error::refused(bad)),
    }
}

/// Returns the result in a response, and consumes it.
pub(crate) fn into_result<R: DeserializeOwned>(response: Response) -> Result<R, Error> {
    let good = match response {
        Response::Good(good) => good,
        Response::Bad(bad) => return Err(Error::refused(&bad)),
    };
    let (mut good, mut broken) = (Some(good), None);
    let text = || {
        let good = good.take().filter(|good| {
            // The caller's raw value is not parsed, so check it here.
            broken = good.check().err();
            broken.is_none()
        });
        good.and_then(Good::into_payload).unwrap_or_else(|| "null".to_string())
    };
    let payload = raw_value(text);
    match (broken, payload, good) {
        (Some(error), ..) => Err(Error::protocol(error, Outcome::Unknown)),
        (None, Some(payload), _) => Ok(payload),
        (None, None, Some(good)) => parsed(&good),
        (None, None, None) => parse::result("null"),
    }
}

/// Returns the result in a good response that may not have been checked before.
fn parsed<R: DeserializeOwned>(good: &Good) -> Result<R, Error> {
    parse::result(good.payload().unwrap_or("null")).map_err(|mismatch| match good.check() {
        Ok(()) => mismatch,
        Err(error) => Error::protocol(error, Outcome::Unknown),
    })
}

/// Returns the elements of a good answer that is an array, in place of the items of a stream; nothing if it is no
/// array.
pub(crate) fn elements(response: &Response) -> Result<Option<VecDeque<Box<RawValue>>>, Error> {
    match response {
        Response::Bad(bad) => Err(Error::refused(bad)),
        Response::Good(good) => Ok(good.payload().and_then(|payload| serde_json::from_str(payload).ok())),
    }
}

/// Returns the error of an answer that came where a session was to be opened, and the server has opened none.
pub(crate) fn without_session(response: &Response) -> Error {
    match response {
        // A server that is full or stopping, or refuses this client, does not show whether it supports sessions.
        Response::Bad(bad) if bad.code().is_some_and(|code| code != code::UNKNOWN_METHOD) => {
            Error::refused(bad)
        }
        _ => no_sessions(),
    }
}

/// Returns the error of a server without sessions where one is needed.
pub(crate) fn no_sessions() -> Error {
    Error::sessionless("the server holds no sessions: each of its connections is for one call")
}

/// Converts the answer to a one-way call. It is dropped, unless it says that the call was refused.
pub(crate) fn dropped(response: &Response) -> Result<(), Error> {
    match response {
        Response::Bad(bad) if bad.code().is_some_and(|code| REFUSALS.contains(&code)) => {
            Err(Error::refused(bad))
        }
        _ => Ok(()),
    }
}

/// Converts the answer to a `$/ping`. A server that does not know the method is there too.
pub(crate) fn reached(answer: Result<IgnoredAny, Error>) -> Result<(), Error> {
    match answer {
        Err(error)
            if error
                .remote()
                .is_none_or(|reply| reply.code().is_some_and(|code| REFUSALS.contains(&code))) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Converts the end of a call on a session to its result.
pub(crate) fn answered(answer: CallEnd, session: &Session) -> Result<Response, Error> {
    match answer {
        CallEnd::Response(response) => Ok(response),
        CallEnd::Unread(response) => response.read().map_err(unreadable),
        CallEnd::Failed(error) => Err(unreadable(error)),
        CallEnd::NotRun => Err(Error::not_run()),
        CallEnd::Lost { sent } => Err(lost(session, sent)),
        CallEnd::Late { sent } | CallEnd::Cancelled { sent } => Err(cancelled(sent)),
    }
}

/// Returns the error of a call that could not begin on a session.
pub(crate) fn refused(refused: BeginError) -> Error {
    match refused {
        BeginError::Gone => Error::not_run(),
        BeginError::Misuse(misuse @ Misuse::PeerTakesNoCalls) => Error::takes_no_calls(misuse),
        BeginError::Misuse(misuse) => Error::misuse(misuse),
        BeginError::Cancelled => cancelled(Outcome::NotSent),
    }
}

/// Converts the error of a call to the peer that opened the session. If that peer takes no calls, calling it is a
/// mistake of the program (PB-FLT-8).
pub(crate) fn in_reverse(error: Error) -> Error {
    match error.remote() {
        Some(_) if error.outcome() == Outcome::NotSent => Error::misuse(Misuse::PeerTakesNoCalls),
        _ => error,
    }
}

/// Returns the error of a call whose answer cannot be read.
pub(crate) fn unreadable(error: ProtocolError) -> Error {
    Error::protocol(error, Outcome::Unknown)
}

/// Returns the error of a cancelled call, which ended as if its timeout had passed.
pub(crate) fn cancelled(outcome: impl Into<Outcome>) -> Error {
    Error::new(ErrorKind::Timeout, outcome, "the call was cancelled")
}

/// Returns the result of a one-way call whose session ended before everything was written.
pub(crate) fn unwritten(session: &Session, id: CallId) -> Result<(), Error> {
    Err(lost(session, session.has_sent(id)))
}

fn lost(session: &Session, sent: Sent) -> Error {
    let disconnected = |why| Error::new(ErrorKind::Disconnected, sent, why);
    match session.end_reason() {
        Some(End::Protocol(error)) => Error::protocol(error, sent),
        Some(End::Io(kind, reason)) => Error::lost(std::io::Error::new(kind, reason), sent),
        Some(End::Silent) => {
            disconnected("the connection was lost before the answer: no sign of life (keepalive)")
        }
        Some(End::Stalled) => {
            disconnected("the connection was lost before the answer: the peer reads nothing (write_timeout)")
        }
        Some(End::Closed) | None => disconnected("the connection was closed before the answer"),
    }
}

/// The codes of a server that has not run a call.
const REFUSALS: [&str; 6] = [
    code::OVERLOADED,
    code::UNAVAILABLE,
    code::DENIED,
    code::TIMEOUT,
    code::INVALID_REQUEST,
    code::UNSUPPORTED_VERSION,
];

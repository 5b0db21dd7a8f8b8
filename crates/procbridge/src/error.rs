//! The one error type of this library: what failed, whether the call can have run, and the server's error answer.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::time::Duration;

use procbridge_proto::{Bad, CallId, Connection, Misuse, ProtocolError, code};
use serde_json::value::RawValue;

use crate::reply_error::ReplyError;

/// The error of a call, or of starting a server.
///
/// [`kind`](Self::kind) tells programs what happened, and the message tells people. [`outcome`](Self::outcome) tells
/// whether the server can have run the call.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    outcome: Outcome,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    remote: Option<ReplyError>,
    is_sessionless: bool,
}

/// The kind of an error. The numbers are those of the specification, the same in every language, and are only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum ErrorKind {
    /// The endpoint's text is wrong, or does not fit its use.
    InvalidEndpoint = 1,
    /// The method or the payload cannot be sent, as it cannot be serialized or exceeds a limit. Or a setting can never
    /// work.
    InvalidInput = 2,
    /// No server answers at the endpoint.
    Connect = 3,
    /// A timeout or deadline passed.
    Timeout = 4,
    /// The peer broke a rule of the protocol, or ended its answer in the middle.
    Protocol = 5,
    /// The server answered with an error; [`Error::remote`] has it.
    Remote = 6,
    /// The operating system or a rule about peers refused the connection.
    Denied = 7,
    /// The connection was lost, or closed without an answer.
    Disconnected = 8,
    /// The answer is not of the expected type.
    InvalidResult = 9,
    /// The answer exceeds this client's limit.
    TooLarge = 10,
    /// The server cannot listen at the endpoint.
    Listen = 11,
    /// The operating system failed in some other way.
    Io = 12,
}

/// The knowledge about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The server answered: it has dealt with the call.
    Replied,
    /// No byte of the call reached the connection: it has not run, and it is safe to send it again.
    NotSent,
    /// The call was sent, at least in part, and no answer was understood: it may have run.
    Unknown,
}

/// Whether any byte of a call was written, according to the connection that writes it. The outcome of a call without an
/// answer follows from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent(bool);

impl Sent {
    /// Returns what `connection` knows of its call `id`.
    pub(crate) fn of(connection: &Connection, id: CallId) -> Self {
        Self(connection.was_sent(id))
    }
}

impl From<Sent> for Outcome {
    fn from(Sent(any): Sent) -> Self {
        if any { Self::Unknown } else { Self::NotSent }
    }
}

impl Error {
    /// Returns what happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the server can have run the call.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether a timeout passed: the client's own, or one that the server reported with the code `timeout`.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout || self.remote().and_then(ReplyError::code) == Some(code::TIMEOUT)
    }

    /// Whether sending the same call again is safe and may help: the server has not run it, for a reason that may pass.
    /// The client could not reach the server, or did not send the call in time. Or the server did not begin it, code
    /// `overloaded` or `unavailable`.
    pub fn is_retryable(&self) -> bool {
        let code = self.remote().and_then(ReplyError::code);
        if matches!(code, Some(code::OVERLOADED | code::UNAVAILABLE)) {
            return true;
        }
        let may_pass = match self.kind() {
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Disconnected => true,
            // The session was refused, before the call.
            ErrorKind::Remote => code == Some(code::TIMEOUT),
            _ => false,
        };
        self.outcome() == Outcome::NotSent && may_pass
    }

    /// Whether the call needs a session, and the server has none: each of its connections is for one call. A server
    /// that is full, shuts down, or refuses this client answers with its own error, which is in
    /// [`remote`](Self::remote).
    pub fn is_sessionless(&self) -> bool {
        self.0.is_sessionless
    }

    /// Returns the server's error answer, if there is one.
    pub fn remote(&self) -> Option<&ReplyError> {
        self.0.remote.as_ref()
    }

    /// Returns the error behind this one, if there is one, for example an `io::Error` of the operating system. Its text
    /// is part of this error's message.
    pub fn get_ref(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// Returns an error of a call whose `outcome` is known from its connection, as [`Sent`], or from its answer.
    pub(crate) fn new(kind: ErrorKind, outcome: impl Into<Outcome>, message: impl Into<String>) -> Self {
        let (outcome, message) = (outcome.into(), message.into());
        Self(Box::new(Inner { kind, message, outcome, source: None, remote: None, is_sessionless: false }))
    }

    /// Returns an error from before any connection had a byte of a call to write, or one that concerns no call.
    /// `scripts/lint` keeps it out of the files that write.
    pub(crate) fn unsent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, Outcome::NotSent, message)
    }

    /// Returns the error of a call that needs a session where there is none.
    pub(crate) fn sessionless(message: impl Into<String>) -> Self {
        let mut error = Self::unsent(ErrorKind::Protocol, message);
        error.0.is_sessionless = true;
        error
    }

    /// Returns this error as that of a call which waited for a session that could not be opened. Nothing of the call
    /// was written, whatever became of the `$/ping` that was to open the session.
    pub(crate) fn before_call(mut self) -> Self {
        self.0.outcome = Outcome::NotSent;
        self
    }

    /// Returns this error as that of a call of which an earlier attempt may have run.
    pub(crate) fn after_unknown(mut self) -> Self {
        if self.0.outcome == Outcome::NotSent {
            self.0.outcome = Outcome::Unknown;
        }
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns an error of the operating system that concerns no call, with what was being done.
    pub(crate) fn io(kind: ErrorKind, doing: impl fmt::Display, error: io::Error) -> Self {
        let message = format!("{doing}: {}", plain(&error));
        Self::unsent(kind, message).with_source(error)
    }

    /// Returns the error of a call whose peer broke a rule.
    pub(crate) fn protocol(error: ProtocolError, outcome: impl Into<Outcome>) -> Self {
        let kind = match error {
            ProtocolError::NoReply => ErrorKind::Disconnected,
            ProtocolError::TooLarge { .. } | ProtocolError::TooDeep { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Protocol,
        };
        let message = match error {
            ProtocolError::NoReply => "the server closed the connection without an answer".to_string(),
            // Both sides make calls, so the message names no side.
            _ => format!("the answer cannot be read: {error}"),
        };
        Self::new(kind, outcome, message).with_source(error)
    }

    /// Returns the error of a call past the client's own timeout.
    pub(crate) fn timed_out(limit: Duration, outcome: impl Into<Outcome>) -> Self {
        Self::new(ErrorKind::Timeout, outcome, format!("no answer within the timeout of {limit:?}"))
    }

    /// Returns the error of a call whose connection failed.
    pub(crate) fn lost(error: io::Error, outcome: impl Into<Outcome>) -> Self {
        let message = format!("the connection was lost before the answer: {}", plain(&error));
        Self::new(ErrorKind::Disconnected, outcome, message).with_source(error)
    }

    /// Returns the error of a call that its connection does not take.
    pub(crate) fn misuse(error: Misuse) -> Self {
        Self::unsent(ErrorKind::InvalidInput, error.to_string()).with_source(error)
    }

    /// Returns the error of a call whose payload cannot be serialized.
    pub(crate) fn unsendable(error: serde_json::Error) -> Self {
        let message = format!("the payload cannot be sent: {error}");
        Self::unsent(ErrorKind::InvalidInput, message).with_source(error)
    }

    pub(crate) fn refused(bad: &Bad) -> Self {
        let data = bad.data().and_then(|data| RawValue::from_string(data.to_string()).ok());
        let mut reply = ReplyError::new(bad.message().to_string()).with_raw_data(data);
        if let Some(code) = bad.code() {
            reply = reply.with_code(code.to_string());
        }
        let mut error = Self::new(ErrorKind::Remote, Outcome::Replied, bad.message());
        error.0.remote = Some(reply);
        error
    }
}

impl Error {
    /// Returns the error of a call that its session has not run, and will not: it takes no more, or said so with
    /// GOODBYE.
    pub(crate) fn not_run() -> Self {
        let message = "the peer ended the session before it ran the call";
        Self::new(ErrorKind::Disconnected, Outcome::NotSent, message)
    }

    /// Returns the answer of a peer whose HELLO allows no calls, without sending the call (PB-FLT-5).
    pub(crate) fn takes_no_calls(misuse: Misuse) -> Self {
        let message = misuse.to_string();
        let mut error = Self::new(ErrorKind::Remote, Outcome::NotSent, message.clone());
        error.0.remote = Some(ReplyError::new(message).with_code(code::OVERLOADED));
        error
    }
}

impl ErrorKind {
    /// Returns the number of this kind in the specification.
    pub fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, outcome, source, remote, .. } = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", kind).field("message", message).field("outcome", outcome);
        if let Some(remote) = remote {
            debug.field("remote", remote);
        }
        if let Some(source) = source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

/// The message contains the text of the error behind this one ([`Error::get_ref`]). `source` returns that error's own
/// source, or a report of the whole chain would print the text twice.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().and_then(std::error::Error::source)
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ReplyError {
    fn from(error: E) -> Self {
        let error = error.into();
        // The error answer of another server is passed on with its code and data.
        if let Some(remote) = error.downcast_ref().and_then(Error::remote) {
            return remote.clone();
        }
        let mut causes = std::iter::successors(error.source(), |cause| cause.source());
        let remote = causes.find_map(|cause| cause.downcast_ref().and_then(Error::remote)).cloned();
        match remote {
            Some(remote) => Self::of_source(error).with_code_and_data_of(remote),
            None => Self::of_source(error),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns the operating system's message without its number, in the style of our own messages.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.as_str()) {
        // "No such file or directory" is lowered to our style; an abbreviation in capitals stays as it is.
        (Some(first), rest) if !rest.starts_with(|next: char| next.is_ascii_uppercase()) => {
            format!("{}{rest}", first.to_ascii_lowercase())
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_kinds_are_those_of_the_specification() {
        let spec = include_str!("../../../spec/procbridge-1.1.md");
        let kinds = [
            ErrorKind::InvalidEndpoint,
            ErrorKind::InvalidInput,
            ErrorKind::Connect,
            ErrorKind::Timeout,
            ErrorKind::Protocol,
            ErrorKind::Remote,
            ErrorKind::Denied,
            ErrorKind::Disconnected,
            ErrorKind::InvalidResult,
            ErrorKind::TooLarge,
            ErrorKind::Listen,
            ErrorKind::Io,
        ];
        for (number, kind) in (1..).zip(kinds) {
            assert_eq!(kind.number(), number);
            assert!(spec.contains(&format!("| {number} | {kind:?} |")), "{kind:?}");
        }
        for code in [
            code::UNKNOWN_METHOD,
            code::INVALID_PAYLOAD,
            code::INVALID_REQUEST,
            code::UNSUPPORTED_VERSION,
            code::TOO_LARGE,
            code::TIMEOUT,
            code::CANCELLED,
            code::OVERLOADED,
            code::UNAVAILABLE,
            code::DENIED,
            code::INTERNAL,
        ] {
            assert!(spec.contains(&format!("| `{code}` |")), "{code}");
        }
    }

    #[test]
    fn a_call_that_did_not_begin_is_retryable() {
        let replied = |code: Option<&'static str>| {
            let mut reply = ReplyError::new("no");
            if let Some(code) = code {
                reply = reply.with_code(code);
            }
            let mut error = Error::new(ErrorKind::Remote, Outcome::Replied, "no");
            error.0.remote = Some(reply);
            error
        };
        for (code, is_retryable) in [
            (Some(code::OVERLOADED), true),
            (Some(code::UNAVAILABLE), true),
            // The handler may have begun.
            (Some(code::TIMEOUT), false),
            (Some(code::TOO_LARGE), false),
            (Some("app.busy"), false),
            (None, false),
        ] {
            assert_eq!(replied(code).is_retryable(), is_retryable, "{code:?}");
        }
        for (kind, outcome, is_retryable) in [
            (ErrorKind::Connect, Outcome::NotSent, true),
            (ErrorKind::Timeout, Outcome::NotSent, true),
            (ErrorKind::Timeout, Outcome::Unknown, false),
            (ErrorKind::Disconnected, Outcome::NotSent, true),
            (ErrorKind::Disconnected, Outcome::Unknown, false),
            (ErrorKind::InvalidInput, Outcome::NotSent, false),
            (ErrorKind::Denied, Outcome::NotSent, false),
        ] {
            assert_eq!(Error::new(kind, outcome, "no").is_retryable(), is_retryable, "{kind:?} {outcome:?}");
        }
    }

    #[test]
    fn the_systems_messages_are_put_in_our_style() {
        let words = |code| plain(&io::Error::from_raw_os_error(code));
        assert_eq!(words(2), "no such file or directory");
        assert_eq!(words(104), "connection reset by peer");
    }
}

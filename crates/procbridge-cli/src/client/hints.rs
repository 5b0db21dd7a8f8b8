//! Explains errors of the library, with hints that tell what to change.

use std::io::ErrorKind as IoKind;

use procbridge::{Endpoint, Error, ErrorKind, Outcome, ReplyError, code};
use procbridge_proto::{Misuse, ProtocolError, Version};

use crate::args::connect::{RAISE_CONNECT_TIMEOUT, RAISE_MAX_BODY};
use crate::client::suggest;
use crate::env::token;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::text::system_error;

/// Adds a hint to an error of a call. `has_timed_out` tells that the call's own timeout has passed.
pub(crate) fn explain(error: Error, endpoint: &Endpoint, has_timed_out: bool) -> CliError {
    // The server knows the timeout too, and may report it first. The exit code must be the same.
    let remote = error.remote().and_then(ReplyError::code);
    if has_timed_out && remote == Some(code::TIMEOUT) {
        return CliError::new(ExitCode::Timeout, "timeout", format!("no answer within the timeout: {error}"))
            .with_outcome(error.outcome())
            .with_hint(RAISE_TIMEOUT);
    }
    let hint = match error.kind() {
        ErrorKind::Connect | ErrorKind::Denied => {
            let reason = source_of::<std::io::Error>(&error);
            reason.and_then(|reason| connect_hint(reason.kind(), endpoint))
        }
        // Only a timeout of connecting has an error of the system as its source.
        ErrorKind::Timeout if !has_timed_out && source_of::<std::io::Error>(&error).is_some() => {
            Some(RAISE_CONNECT_TIMEOUT.to_string())
        }
        ErrorKind::Timeout => Some(RAISE_TIMEOUT.to_string()),
        ErrorKind::TooLarge | ErrorKind::InvalidInput if is_body_too_large(&error) => {
            Some(RAISE_MAX_BODY.to_string())
        }
        ErrorKind::Remote if remote == Some(code::DENIED) => {
            Some(format!("if the server asks for a token, set {} or --token", token::VARIABLE))
        }
        ErrorKind::Protocol | ErrorKind::Disconnected => reply_hint(&error),
        _ => None,
    };
    hint.into_iter().fold(CliError::from(error), CliError::with_hint)
}

/// Explains a failure to connect, in the words that the library uses for it.
pub(crate) fn explain_connect(error: &std::io::Error, endpoint: &Endpoint) -> CliError {
    let (exit, kind, reason) = match error.kind() {
        IoKind::TimedOut => (ExitCode::Timeout, "timeout", "no connection within the timeout".to_string()),
        IoKind::PermissionDenied => (ExitCode::Denied, "denied", system_error::describe(error)),
        IoKind::NotFound => (ExitCode::Connect, "connect", "no such file".to_string()),
        IoKind::ConnectionRefused => {
            (ExitCode::Connect, "connect", "connection refused, no server answers there".to_string())
        }
        _ => (ExitCode::Connect, "connect", system_error::describe(error)),
    };
    let hint = match exit {
        ExitCode::Timeout => Some(RAISE_CONNECT_TIMEOUT.to_string()),
        _ => connect_hint(error.kind(), endpoint),
    };
    let error = CliError::new(exit, kind, format!("cannot connect to {endpoint}: {reason}"));
    hint.into_iter().fold(error, CliError::with_hint)
}

/// Returns the error for a server that answers but lacks the built-in `method`.
pub(crate) fn missing_builtin(endpoint: &Endpoint, is_session: bool, method: &str) -> CliError {
    let (message, hint) = match is_session {
        true => (
            format!("the server at {endpoint} has no \"{method}\""),
            "the server has sessions and answers calls; this method is disabled there".to_string(),
        ),
        false => (
            format!("the server at {endpoint} speaks classic ProcBridge 1.1: it has no \"{method}\""),
            format!("the server still answers calls: \"procbridge call {endpoint} METHOD\""),
        ),
    };
    let error = CliError::new(ExitCode::Remote, "remote", message).with_hint(hint);
    error.with_code(code::UNKNOWN_METHOD).with_outcome(Outcome::Replied)
}

/// Whether the server has no such method. The older packages report that without a code.
pub(crate) fn is_unknown_method(error: &Error) -> bool {
    error.remote().is_some_and(|remote| matches!(remote.code(), None | Some(code::UNKNOWN_METHOD)))
}

/// Returns the hint for a failed connect.
fn connect_hint(reason: IoKind, endpoint: &Endpoint) -> Option<String> {
    let text = endpoint.to_string();
    let local = ["tcp:127.", "tcp:localhost:", "tcp:[::1]:", "unix:"];
    let is_local = local.iter().any(|start| text.starts_with(start));
    let start = || format!("\"procbridge serve {endpoint} --demo\" starts a demo server there");
    match (reason, endpoint.path()) {
        (IoKind::NotFound, Some(path)) => Some(suggest::suggest_socket(path).unwrap_or_else(start)),
        // The system also refuses a connection to a file that is no socket.
        (IoKind::ConnectionRefused, Some(path)) if !suggest::is_socket(path) => {
            Some(format!("{} is not a socket", path.display()))
        }
        (IoKind::ConnectionRefused, Some(_)) => Some(format!(
            "the server has ended and left its socket file; \"procbridge serve {endpoint} --demo\" starts another"
        )),
        (IoKind::ConnectionRefused, None) if is_local => Some(start()),
        (IoKind::PermissionDenied, Some(path)) => {
            Some(format!("\"ls -l {}\" shows the socket's owner and mode", path.display()))
        }
        _ => None,
    }
}

/// Returns the hint for an invalid answer.
fn reply_hint(error: &Error) -> Option<String> {
    if error.is_sessionless() {
        return Some(
            "the server speaks classic ProcBridge 1.1: call it without --session and --compress".to_string(),
        );
    }
    match source_of::<ProtocolError>(error)? {
        ProtocolError::NotProcBridge { .. } => {
            Some("another kind of server listens there; check the endpoint".to_string())
        }
        ProtocolError::NoReply => Some(
            "a server of the 1.0 format closes like this; \"procbridge call --old\" speaks that format"
                .to_string(),
        ),
        ProtocolError::UnsupportedVersion { found, .. } if *found == Version::V1_0.bytes() => {
            Some("\"procbridge call --old\" speaks the 1.0 format".to_string())
        }
        _ => None,
    }
}

/// Whether a body exceeded the limit of this side or of the server.
fn is_body_too_large(error: &Error) -> bool {
    matches!(source_of(error), Some(ProtocolError::TooLarge { .. }))
        || matches!(source_of(error), Some(Misuse::TooLarge { .. }))
}

/// Returns the source of `error` if it has this type.
fn source_of<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    error.get_ref().and_then(|behind| behind.downcast_ref())
}

const RAISE_TIMEOUT: &str = "raise --timeout; \"none\" waits without one";

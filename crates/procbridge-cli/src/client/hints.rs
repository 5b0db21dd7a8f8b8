//! Errors of the library, with what a person at a shell can do about them.

use std::io::ErrorKind as IoKind;

use procbridge::{Endpoint, Error, ErrorKind, Outcome, RemoteError, code};
use procbridge_proto::{Misuse, ProtocolError, Version};

use crate::client::suggest;
use crate::env::token;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::text::system_error;

/// An error of the library, with what a person at a shell can do about it. With `own_timeout` the limit of the call
/// itself has passed.
pub(crate) fn explain(error: Error, endpoint: &Endpoint, own_timeout: bool) -> CliError {
    // The server was told the limit, and may tell that it passed before this side looks at its clock. Which of them
    // is first is chance, and the exit code must not be.
    let remote = error.remote().and_then(RemoteError::code);
    if own_timeout && remote == Some(code::TIMEOUT) {
        return CliError::new(
            ExitCode::Timeout,
            "timeout",
            format!("no answer within the time limit: {error}"),
        )
        .with_outcome(error.outcome())
        .with_hint(RAISE_TIMEOUT);
    }
    let hint = match error.kind() {
        ErrorKind::Connect | ErrorKind::Denied => {
            let reason = source_of::<std::io::Error>(&error);
            reason.and_then(|reason| connect_hint(reason.kind(), endpoint))
        }
        // Only a connect has the system's error behind its limit.
        ErrorKind::Timeout if !own_timeout && source_of::<std::io::Error>(&error).is_some() => {
            Some(RAISE_CONNECT_TIMEOUT.to_string())
        }
        ErrorKind::Timeout => Some(RAISE_TIMEOUT.to_string()),
        ErrorKind::TooLarge | ErrorKind::InvalidInput if is_body_too_large(&error) => {
            Some("--max-body sets another limit; the server has its own".to_string())
        }
        ErrorKind::Remote if remote == Some(code::DENIED) => {
            Some(format!("if it asks for a token, {} holds it, or --token gives it", token::VARIABLE))
        }
        ErrorKind::Protocol | ErrorKind::Disconnected => reply_hint(&error),
        _ => None,
    };
    hint.into_iter().fold(CliError::from(error), CliError::with_hint)
}

/// The failure to connect that the library would have told, had it been the one to connect.
pub(crate) fn explain_connect(error: &std::io::Error, endpoint: &Endpoint) -> CliError {
    let (exit, kind, reason) = match error.kind() {
        IoKind::TimedOut => (ExitCode::Timeout, "timeout", "no connection within the time limit".to_string()),
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
    let failure = CliError::new(exit, kind, format!("cannot connect to {endpoint}: {reason}"));
    hint.into_iter().fold(failure, CliError::with_hint)
}

/// The server answers, and has no `method`, which belongs to the protocol.
pub(crate) fn missing_builtin(endpoint: &Endpoint, is_session: bool, method: &str) -> CliError {
    let (message, help) = match is_session {
        true => (
            format!("the server at {endpoint} has no \"{method}\""),
            "it holds sessions and answers calls; this method is switched off there".to_string(),
        ),
        false => (
            format!("the server at {endpoint} speaks classic ProcBridge 1.1: it has no \"{method}\""),
            format!("it answers calls all the same: \"procbridge call {endpoint} METHOD\""),
        ),
    };
    let failure = CliError::new(ExitCode::Remote, "remote", message).with_hint(help);
    failure.with_code(code::UNKNOWN_METHOD).with_outcome(Outcome::Replied)
}

/// Whether an error answer says that there is no such method. The older packages answer without a code.
pub(crate) fn is_unknown_method(error: &Error) -> bool {
    error.remote().is_some_and(|remote| matches!(remote.code(), None | Some(code::UNKNOWN_METHOD)))
}

/// What can be done when nobody is reached.
fn connect_hint(reason: IoKind, endpoint: &Endpoint) -> Option<String> {
    let text = endpoint.to_string();
    let near = ["tcp:127.", "tcp:localhost:", "tcp:[::1]:", "unix:"];
    let is_near = near.iter().any(|start| text.starts_with(start));
    let start = || format!("\"procbridge serve {endpoint} --demo\" starts one to try");
    match (reason, endpoint.path()) {
        (IoKind::NotFound, Some(path)) => Some(suggest::suggest_socket(path).unwrap_or_else(start)),
        // The system refuses whatever is no socket in the same words.
        (IoKind::ConnectionRefused, Some(path)) if !suggest::is_socket(path) => {
            Some(format!("{} is not a socket", path.display()))
        }
        (IoKind::ConnectionRefused, Some(_)) => Some(format!(
            "its server has ended and left the file; \"procbridge serve {endpoint} --demo\" starts another there"
        )),
        (IoKind::ConnectionRefused, None) if is_near => Some(start()),
        (IoKind::PermissionDenied, Some(path)) => {
            Some(format!("\"ls -l {}\" shows who may use the socket", path.display()))
        }
        _ => None,
    }
}

/// What can be done about an answer that is none.
fn reply_hint(error: &Error) -> Option<String> {
    if error.is_sessionless() {
        return Some(
            "it speaks classic ProcBridge 1.1; a call without --session and --compress reaches it"
                .to_string(),
        );
    }
    match source_of::<ProtocolError>(error)? {
        ProtocolError::NotProcBridge { .. } => Some("another kind of server listens there".to_string()),
        ProtocolError::NoReply => Some(
            "servers of the 1.0 format do so; if it is one, \"procbridge call --old\" speaks to it"
                .to_string(),
        ),
        ProtocolError::UnsupportedVersion { found, .. } if *found == Version::V1_0.bytes() => {
            Some("\"procbridge call --old\" speaks the 1.0 format".to_string())
        }
        _ => None,
    }
}

/// Whether a limit of bodies was passed, that of this side or the server's.
fn is_body_too_large(error: &Error) -> bool {
    matches!(source_of(error), Some(ProtocolError::TooLarge { .. }))
        || matches!(source_of(error), Some(Misuse::TooLarge { .. }))
}

/// What is behind `error`, if it is of this type.
fn source_of<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    error.get_ref().and_then(|behind| behind.downcast_ref())
}

const RAISE_TIMEOUT: &str = "--timeout sets another limit, \"none\" waits for ever";
const RAISE_CONNECT_TIMEOUT: &str = "--connect-timeout allows more time for connecting";

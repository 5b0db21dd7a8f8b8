//! `procbridge call`: arguments become a call, its answer becomes data on standard output.

use std::error::Error as _;
use std::io::ErrorKind as IoKind;
use std::time::Instant;

use procbridge::{Client, ClientConfig, Endpoint, Error, ErrorKind, RemoteError, code};
use serde_json::value::RawValue;

use crate::args::CallArgs;
use crate::default_endpoint::VARIABLE;
use crate::failure::{Exit, Failure};
use crate::json_text::{Layout, Object, lay_out};
use crate::units::Limit;
use crate::{default_endpoint, nearby, output, payload};

/// Makes the call and prints its result.
pub(crate) fn run(args: &CallArgs) -> Result<(), Failure> {
    let Words { endpoint, method, payload, assumed } = Words::of(args)?;
    let payload = payload::read(&payload, args.max_body).map_err(|failure| match assumed {
        // The variable made a method of what may have been meant as an endpoint.
        Some(reason) => failure.with_help(reason),
        None => failure,
    })?;
    let client = Client::connect_with(&endpoint, config(args))?;
    let started = Instant::now();
    let request = match &method {
        Some(method) => client.call(method),
        None => client.call_without_method(),
    };
    let request = match args.timeout {
        Some(Limit::After(limit)) => request.timeout(limit),
        _ => request,
    };
    let result: Result<Box<RawValue>, Error> = request.payload(&payload).send();
    let elapsed = started.elapsed();

    let result = result.map_err(|error| {
        let own_limit = matches!(args.timeout, Some(Limit::After(limit)) if elapsed >= limit);
        failure(error, &endpoint, own_limit).with_elapsed(elapsed)
    })?;
    if args.json {
        let envelope = Object::new()
            .member("ok", "true")
            .member("payload", &lay_out(result.get(), Layout::Compact))
            .member("elapsed_us", &elapsed.as_micros().to_string());
        return output::line(envelope.finish());
    }
    output::line(shown(args, result.get()))
}

/// What the arguments stand for.
struct Words {
    endpoint: Endpoint,
    method: Option<String>,
    payload: Vec<String>,
    /// A line of help, if the first argument was read as the method.
    assumed: Option<String>,
}

impl Words {
    fn of(args: &CallArgs) -> Result<Self, Failure> {
        let words = args.first.iter().chain(&args.second).chain(&args.rest).cloned();
        let mut words = words.collect::<Vec<_>>().into_iter().peekable();
        let mut assumed = None;
        let endpoint = match words.peek().map(|first| first.parse::<Endpoint>()) {
            Some(Ok(endpoint)) => {
                words.next();
                endpoint
            }
            first => match (default_endpoint::read()?, first) {
                (Some(endpoint), _) => {
                    let what = if args.no_method { "payload" } else { "method" };
                    let reason = |word| format!("{word:?} was read as the {what}, as {VARIABLE} is set");
                    assumed = words.peek().map(reason);
                    endpoint
                }
                (None, Some(Err(error))) => {
                    return Err(Failure::from(error).with_help(format!(
                        "the first argument is the endpoint, unless {VARIABLE} holds one"
                    )));
                }
                (None, _) => return Err(Failure::usage("no endpoint and no method").with_help(USAGE)),
            },
        };
        let method = if args.no_method { None } else { words.next() };
        if method.is_none() && !args.no_method {
            return Err(Failure::usage(format!("no method to call at {endpoint}"))
                .with_help(USAGE)
                .with_help("--no-method calls without one"));
        }
        Ok(Self { endpoint, method, payload: words.collect(), assumed })
    }
}

fn config(args: &CallArgs) -> ClientConfig {
    let mut config = ClientConfig::new().with_max_body(args.max_body);
    config = match args.connect_timeout {
        Limit::After(limit) => config.with_connect_timeout(limit),
        Limit::Never => config.without_connect_timeout(),
    };
    if args.timeout == Some(Limit::Never) {
        config = config.without_call_timeout();
    }
    if args.old { config.speaking_1_0() } else { config }
}

fn shown(args: &CallArgs, result: &str) -> String {
    // A string with half a surrogate pair is no text; it stays JSON.
    if args.raw
        && result.starts_with('"')
        && let Ok(text) = serde_json::from_str::<String>(result)
    {
        return text;
    }
    let layout = match (args.pretty, args.compact) {
        (_, true) => Layout::Compact,
        (_, false) if output::is_terminal() => Layout::Terminal,
        (true, false) => Layout::Pretty,
        (false, false) => Layout::Compact,
    };
    lay_out(result, layout)
}

/// An error of the library, with what a person at a shell can do about it. With `own_limit` the limit of the call
/// itself has passed.
fn failure(error: Error, endpoint: &Endpoint, own_limit: bool) -> Failure {
    // The server was told the limit, and may tell that it passed before this side looks at its clock. Which of them
    // is first is chance, and the exit code must not be.
    let remote = error.remote().and_then(RemoteError::code);
    if own_limit && remote == Some(code::TIMEOUT) {
        return Failure::new(Exit::Timeout, "timeout", format!("no answer within the time limit: {error}"))
            .with_outcome(error.outcome())
            .with_help(LONGER);
    }
    let help = match error.kind() {
        ErrorKind::Connect | ErrorKind::Denied => unreachable_help(&error, endpoint),
        ErrorKind::Timeout if !own_limit && error.to_string().starts_with("cannot connect") => {
            Some("--connect-timeout allows more time for connecting".to_string())
        }
        ErrorKind::Timeout => Some(LONGER.to_string()),
        ErrorKind::TooLarge | ErrorKind::InvalidInput if error.to_string().contains("(max_body)") => {
            Some("--max-body sets another limit; the server has its own".to_string())
        }
        ErrorKind::Protocol | ErrorKind::Disconnected => answer_help(&error),
        _ => None,
    };
    help.into_iter().fold(Failure::from(error), Failure::with_help)
}

/// What can be done when nobody is reached.
fn unreachable_help(error: &Error, endpoint: &Endpoint) -> Option<String> {
    let reason = error.source().and_then(|source| source.downcast_ref::<std::io::Error>())?.kind();
    let text = endpoint.to_string();
    let is_near = ["tcp:127.", "tcp:localhost:", "tcp:[::1]:"].iter().any(|start| text.starts_with(start));
    match (reason, endpoint.path()) {
        (IoKind::NotFound, Some(path)) => nearby::help(path),
        (IoKind::ConnectionRefused, Some(_)) => Some(format!(
            "its server has ended and left the file; \"procbridge serve {endpoint} --demo\" starts another there"
        )),
        (IoKind::ConnectionRefused, None) if is_near => {
            Some(format!("\"procbridge serve {endpoint} --demo\" starts one to try"))
        }
        (IoKind::PermissionDenied, Some(path)) => {
            Some(format!("\"ls -l {}\" shows who may use the socket", path.display()))
        }
        _ => None,
    }
}

/// What can be done about an answer that is none.
fn answer_help(error: &Error) -> Option<String> {
    use procbridge_proto::{ProtocolError, Version};

    match error.source().and_then(|source| source.downcast_ref::<ProtocolError>())? {
        ProtocolError::NotProcBridge { .. } => Some("another kind of server listens there".to_string()),
        ProtocolError::NoReply => {
            Some("servers of the 1.0 format do so; if it is one, --old speaks to it".to_string())
        }
        ProtocolError::UnsupportedVersion { found, .. } if *found == Version::V1_0.bytes() => {
            Some("--old speaks the 1.0 format".to_string())
        }
        _ => None,
    }
}

const USAGE: &str =
    "it is \"procbridge call ENDPOINT METHOD [PAYLOAD]\", as in \"procbridge call :8000 sum '[1,2]'\"";
const LONGER: &str = "--timeout sets another limit, \"none\" waits for ever";

//! A question to a method of the protocol, which not every server has.

use std::collections::HashMap;
use std::time::Duration;

use procbridge::Endpoint;
use serde_json::value::RawValue;

use crate::args::builtin::BuiltinArgs;
use crate::capture::observed::Observed;
use crate::client::connect::{ConnectOptions, Connection, TimedReply};
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::error::CliError;
use crate::json::envelope;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct BuiltinReply {
    pub(crate) endpoint: Endpoint,
    pub(crate) payload: Box<RawValue>,
    pub(crate) elapsed: Duration,
}

impl BuiltinReply {
    /// The line for a program that asked for the envelope.
    pub(crate) fn envelope(&self, payload: &str) -> String {
        envelope::success(payload, self.elapsed).finish()
    }
}

/// Calls `method` of the protocol. A server that has it answers an object with `key`: others may answer anything, as
/// the method is nothing special to them.
pub(crate) fn call(
    args: &BuiltinArgs,
    endpoint: Endpoint,
    method: &str,
    key: &str,
) -> Result<BuiltinReply, CliError> {
    let (connection, asked) = begin(args, &endpoint, method)?;
    let (is_late, elapsed) = (asked.is_late(), asked.elapsed);
    let lacking = || {
        hints::missing_builtin(&endpoint, connection.observed().hello.is_some(), method).with_elapsed(elapsed)
    };
    match asked.result {
        Ok(payload) if has_key(&payload, key) => {
            drop(connection);
            Ok(BuiltinReply { endpoint, payload, elapsed })
        }
        Ok(_) => Err(lacking()),
        Err(error) if hints::is_unknown_method(&error) => Err(lacking()),
        Err(error) => Err(connection.error(error, is_late).with_elapsed(elapsed)),
    }
}

/// What there is to see of a server with a call of `method`, whether it has that or not, and its answer if it has.
pub(crate) fn probe(
    args: &BuiltinArgs,
    endpoint: &Endpoint,
    method: &str,
) -> Result<(Observed, Option<Box<RawValue>>, Duration), CliError> {
    let (connection, asked) = begin(args, endpoint, method)?;
    let (is_late, elapsed) = (asked.is_late(), asked.elapsed);
    match asked.result {
        Ok(payload) => Ok((connection.observed(), Some(payload), elapsed)),
        // A refusal says nothing of what the server can do; a session that it has opened all the same does.
        Err(error) if hints::is_unknown_method(&error) || is_refused_in_session(&connection, &error) => {
            Ok((connection.observed(), None, elapsed))
        }
        Err(error) => Err(connection.error(error, is_late).with_elapsed(elapsed)),
    }
}

fn is_refused_in_session(connection: &Connection, error: &procbridge::Error) -> bool {
    error.remote().is_some() && connection.observed().hello.is_some()
}

fn begin(
    args: &BuiltinArgs,
    endpoint: &Endpoint,
    method: &str,
) -> Result<(Connection, TimedReply), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    let options = ConnectOptions::with_timeout(args.timeout).captured();
    let connection = Connection::new(endpoint, &args.connect, options, &interrupt)?;
    let asked = connection.ask(method, None, args.timeout);
    Ok((connection, asked))
}

fn has_key(payload: &RawValue, key: &str) -> bool {
    let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(payload.get());
    object.is_ok_and(|object| object.contains_key(key))
}

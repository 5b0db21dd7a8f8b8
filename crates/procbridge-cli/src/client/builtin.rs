//! Calls built-in methods such as `$/describe`, which not every server has.

use std::collections::HashMap;
use std::time::Duration;

use procbridge::{Endpoint, Error};
use serde_json::value::RawValue;

use crate::args::builtin::BuiltinArgs;
use crate::capture::observed::Observed;
use crate::client::connect::{Connection, config_for};
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::error::CliError;
use crate::json::envelope;

/// The answer of a built-in method.
#[derive(Debug)]
pub(crate) struct BuiltinReply {
    pub(crate) endpoint: Endpoint,
    pub(crate) payload: Box<RawValue>,
    pub(crate) elapsed: Duration,
}

impl BuiltinReply {
    /// Returns the envelope with `payload`, which is made of the answer.
    pub(crate) fn envelope(&self, payload: &str) -> String {
        envelope::success(payload, self.elapsed).finish()
    }
}

/// Calls the built-in `method`, whose answer is an object with `key`.
///
/// A server without the method may answer anything, as the method's name means nothing to it.
pub(crate) fn call(
    args: &BuiltinArgs,
    endpoint: Endpoint,
    method: &str,
    key: &str,
) -> Result<BuiltinReply, CliError> {
    let (connection, result, elapsed) = connect_and_call(args, &endpoint, method)?;
    let missing = || {
        let is_session = connection.observed().hello.is_some();
        hints::missing_builtin(&endpoint, is_session, method).with_elapsed(elapsed)
    };
    match result {
        Ok(payload) if has_key(&payload, key) => {
            drop(connection);
            Ok(BuiltinReply { endpoint, payload, elapsed })
        }
        Ok(_) => Err(missing()),
        Err(error) if hints::is_unknown_method(&error) => Err(missing()),
        Err(error) => Err(connection.explain(error, elapsed, Some(args.timeout))),
    }
}

/// Calls the built-in `method` to observe the server. Returns also the answer, if the server has the method.
pub(crate) fn probe(
    args: &BuiltinArgs,
    endpoint: &Endpoint,
    method: &str,
) -> Result<(Observed, Option<Box<RawValue>>, Duration), CliError> {
    let (connection, result, elapsed) = connect_and_call(args, endpoint, method)?;
    let observed = connection.observed();
    match result {
        Ok(payload) => Ok((observed, Some(payload), elapsed)),
        Err(error) if hints::is_unknown_method(&error) => Ok((observed, None, elapsed)),
        // A refusal shows nothing of the server, but its session does.
        Err(error) if error.remote().is_some() && observed.hello.is_some() => Ok((observed, None, elapsed)),
        Err(error) => Err(connection.explain(error, elapsed, Some(args.timeout))),
    }
}

type CallResult = Result<Box<RawValue>, Error>;

fn connect_and_call(
    args: &BuiltinArgs,
    endpoint: &Endpoint,
    method: &str,
) -> Result<(Connection, CallResult, Duration), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    let connection = Connection::observing(endpoint, &args.connect, config_for(args.timeout), &interrupt)?;
    let (result, elapsed) = connection.call(method, None, args.timeout);
    Ok((connection, result, elapsed))
}

fn has_key(payload: &RawValue, key: &str) -> bool {
    let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(payload.get());
    object.is_ok_and(|object| object.contains_key(key))
}

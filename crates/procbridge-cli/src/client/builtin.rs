//! A question to a method of the protocol, which not every server has.

use std::collections::HashMap;
use std::time::Duration;

use procbridge::Endpoint;
use serde_json::value::RawValue;

use crate::args::QuestionArgs;
use crate::capture::relay::Seen;
use crate::client::connect::Asked;
use crate::client::connect::Reach;
use crate::client::connect::Wishes;
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::client::print;
use crate::error::Failure;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) endpoint: Endpoint,
    pub(crate) payload: Box<RawValue>,
    pub(crate) elapsed: Duration,
}

impl Answer {
    /// The line for a program that asked for the envelope.
    pub(crate) fn envelope(&self, payload: &str) -> String {
        print::envelope(payload, self.elapsed).finish()
    }
}

/// Calls `method` of the protocol. A server that has it answers an object with `key`: others may answer anything, as
/// the method is nothing special to them.
pub(crate) fn ask(
    args: &QuestionArgs,
    endpoint: Endpoint,
    method: &str,
    key: &str,
) -> Result<Answer, Failure> {
    let (reach, asked) = begin(args, &endpoint, method)?;
    let (is_late, elapsed) = (asked.is_late(), asked.elapsed);
    let lacking = || hints::lacking(&endpoint, reach.seen().hello.is_some(), method).with_elapsed(elapsed);
    match asked.result {
        Ok(payload) if has_key(&payload, key) => {
            drop(reach);
            Ok(Answer { endpoint, payload, elapsed })
        }
        Ok(_) => Err(lacking()),
        Err(error) if hints::is_unknown_method(&error) => Err(lacking()),
        Err(error) => Err(reach.failure(error, is_late).with_elapsed(elapsed)),
    }
}

/// What there is to see of a server with a call of `method`, whether it has that or not, and its answer if it has.
pub(crate) fn look(
    args: &QuestionArgs,
    endpoint: &Endpoint,
    method: &str,
) -> Result<(Seen, Option<Box<RawValue>>, Duration), Failure> {
    let (reach, asked) = begin(args, endpoint, method)?;
    let (is_late, elapsed) = (asked.is_late(), asked.elapsed);
    match asked.result {
        Ok(payload) => Ok((reach.seen(), Some(payload), elapsed)),
        // A refusal says nothing of what the server can do; a session that it has opened all the same does.
        Err(error) if hints::is_unknown_method(&error) || is_refused_in_session(&reach, &error) => {
            Ok((reach.seen(), None, elapsed))
        }
        Err(error) => Err(reach.failure(error, is_late).with_elapsed(elapsed)),
    }
}

fn is_refused_in_session(reach: &Reach, error: &procbridge::Error) -> bool {
    error.remote().is_some() && reach.seen().hello.is_some()
}

fn begin(args: &QuestionArgs, endpoint: &Endpoint, method: &str) -> Result<(Reach, Asked), Failure> {
    let interrupt = Interrupt::listen(args.json)?;
    let wishes = Wishes::within(args.timeout).looking();
    let reach = Reach::new(endpoint, &args.reach, wishes, &interrupt)?;
    let asked = reach.ask(method, None, args.timeout);
    Ok((reach, asked))
}

fn has_key(payload: &RawValue, key: &str) -> bool {
    let object: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(payload.get());
    object.is_ok_and(|object| object.contains_key(key))
}

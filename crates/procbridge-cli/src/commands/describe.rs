//! `procbridge describe`: prints the description of a server's methods.

use std::ffi::OsString;

use procbridge::{Outcome, code};

use crate::args::describe::DescribeArgs;
use crate::args::target::Target;
use crate::args::utf8::into_utf8;
use crate::client::builtin::{self, BuiltinReply};
use crate::client::description;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::layout::{Layout, lay_out};
use crate::terminal::stdout;

/// Prints the description of all methods, or of one.
pub(crate) fn run(args: &DescribeArgs) -> Result<(), CliError> {
    let words: Vec<_> = args.builtin.endpoint.iter().chain(&args.method).map(OsString::from).collect();
    let (endpoint, method) = match words.is_empty() {
        true => (Target::endpoint(None)?, None),
        false => {
            let Target { endpoint, words, .. } = Target::parse(words, "method", USAGE)?;
            if let [_, unexpected, ..] = words.as_slice() {
                return Err(CliError::usage(format!("unexpected argument {unexpected:?}")).with_hint(USAGE));
            }
            (endpoint, words.into_iter().next().map(into_utf8).transpose()?)
        }
    };
    let reply = builtin::call(&args.builtin, endpoint, "$/describe", "methods")?;
    let text = match &method {
        None => reply.payload.get().to_string(),
        Some(method) => find(&reply, method)?,
    };
    if args.builtin.json {
        return stdout::write_envelope(reply.envelope(&text), 0);
    }
    stdout::write_line(lay_out(&text, if args.compact { Layout::Compact } else { Layout::Pretty }))
}

/// Returns the description of the method `wanted`.
fn find(reply: &BuiltinReply, wanted: &str) -> Result<String, CliError> {
    let methods = description::parse(reply)?;
    if let Some((_, text)) = methods.iter().find(|(method, _)| method.name == wanted) {
        return Ok((*text).to_string());
    }
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(wanted, name);
    let similar = methods
        .iter()
        .map(|(method, _)| (similarity(&method.name), &method.name))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let endpoint = &reply.endpoint;
    let message = format!("the server at {endpoint} has no method {wanted:?}");
    let error = CliError::new(ExitCode::Remote, "remote", message)
        .with_code(code::UNKNOWN_METHOD)
        .with_outcome(Outcome::Replied)
        .with_elapsed(reply.elapsed);
    Err(match similar {
        Some((_, name)) => error.with_hint(format!("did you mean {name:?}?")),
        None => error.with_hint(format!("\"procbridge list {endpoint}\" shows the methods")),
    })
}

const USAGE: &str =
    "it is \"procbridge describe ENDPOINT [METHOD]\", as in \"procbridge describe :8000 sum\"";
/// The least similarity of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.5;

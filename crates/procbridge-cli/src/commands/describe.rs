//! `procbridge list` and `procbridge describe`: what a server tells of its methods.

use std::ffi::OsString;

use crate::args::describe::DescribeArgs;
use crate::args::target::Target;
use crate::args::utf8::into_utf8;
use crate::client::builtin::{self, BuiltinReply};
use crate::client::description::entries;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::layout::{Layout, lay_out};
use crate::terminal::stdout;

/// Prints the whole description, or that of one method.
pub(crate) fn describe(args: &DescribeArgs) -> Result<(), CliError> {
    let words: Vec<_> = args.builtin.endpoint.iter().chain(&args.method).map(OsString::from).collect();
    let (endpoint, method) = match words.is_empty() {
        true => (Target::alone(None)?, None),
        false => {
            let Target { endpoint, words, .. } = Target::of(words, "method", USAGE)?;
            if let [_, unexpected, ..] = words.as_slice() {
                return Err(CliError::usage(format!("unexpected argument {unexpected:?}")).with_hint(USAGE));
            }
            (endpoint, words.into_iter().next().map(into_utf8).transpose()?)
        }
    };
    let answer = builtin::call(&args.builtin, endpoint, "$/describe", "methods")?;
    let text = match &method {
        None => answer.payload.get().to_string(),
        Some(method) => one(&answer, method)?,
    };
    if args.builtin.json {
        return stdout::write_envelope(answer.envelope(&text), 0);
    }
    stdout::write_line(match args.compact {
        true => lay_out(&text, Layout::Compact),
        false => lay_out(&text, Layout::Pretty),
    })
}

/// The description of one method.
fn one(answer: &BuiltinReply, wanted: &str) -> Result<String, CliError> {
    let entries = entries(answer)?;
    if let Some((_, text)) = entries.iter().find(|(method, _)| method.name == wanted) {
        return Ok((*text).to_string());
    }
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(wanted, name);
    let near = entries
        .iter()
        .map(|(method, _)| (likeness(&method.name), &method.name))
        .filter(|(likeness, _)| *likeness >= MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let endpoint = &answer.endpoint;
    let failure = CliError::new(
        ExitCode::Remote,
        "remote",
        format!("the server at {endpoint} has no method {wanted:?}"),
    )
    .with_code(procbridge::code::UNKNOWN_METHOD)
    .with_outcome(procbridge::Outcome::Replied)
    .with_elapsed(answer.elapsed);
    Err(match near {
        Some((_, name)) => failure.with_hint(format!("is it {name:?}?")),
        None => failure.with_hint(format!("\"procbridge list {endpoint}\" shows what it has")),
    })
}

const USAGE: &str =
    "it is \"procbridge describe ENDPOINT [METHOD]\", as in \"procbridge describe :8000 sum\"";

/// A name that is less like than this was not meant.
const MIN_SIMILARITY: f64 = 0.5;

//! `procbridge list` and `procbridge describe`: what a server tells of its methods.

use std::ffi::OsString;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::DescribeArgs;
use crate::args::ListArgs;
use crate::args::target::Target;
use crate::args::words;
use crate::client::builtin;
use crate::client::builtin::BuiltinReply;
use crate::error::CliError;
use crate::error::ExitCode;
use crate::json::layout::Layout;
use crate::json::layout::Object;
use crate::json::layout::lay_out;
use crate::terminal::stdout;
use crate::text::unprintable::escape_controls;
use crate::text::unprintable::escape_message;

/// The answer of `$/describe`.
#[derive(Debug, Deserialize)]
struct Description<'a> {
    #[serde(borrow)]
    methods: Vec<&'a RawValue>,
}

/// One of its methods, as far as a list shows it.
#[derive(Debug, Deserialize)]
struct Method {
    name: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    doc: Option<String>,
}

/// Prints the names of the methods; for people with what the server says of each.
pub(crate) fn list(args: &ListArgs) -> Result<(), CliError> {
    let endpoint = Target::alone(args.builtin.endpoint.as_ref())?;
    let answer = builtin::call(&args.builtin, endpoint, "$/describe", "methods")?;
    let methods: Vec<_> = entries(&answer)?.into_iter().map(|(method, _)| method).collect();
    if args.builtin.json {
        let entries: Vec<_> = methods.iter().map(Method::envelope).collect();
        return stdout::write_envelope(answer.envelope(&format!("[{}]", entries.join(","))), 0);
    }
    stdout::write(&listing(&methods, stdout::is_terminal()))
}

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
            (endpoint, words.into_iter().next().map(words::into_utf8).transpose()?)
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

/// The methods, each with all that is said of it.
fn entries(answer: &BuiltinReply) -> Result<Vec<(Method, &str)>, CliError> {
    let strange = |error: serde_json::Error| {
        let message = format!("the description cannot be read: {error}");
        CliError::new(ExitCode::Protocol, "protocol", message).with_outcome(procbridge::Outcome::Replied)
    };
    let description: Description<'_> = serde_json::from_str(answer.payload.get()).map_err(strange)?;
    let entries = description.methods.into_iter().map(RawValue::get);
    entries.map(|text| Ok((serde_json::from_str(text).map_err(strange)?, text))).collect()
}

impl Method {
    fn envelope(&self) -> String {
        let object = Object::new().string("name", self.name.as_str()).string("kind", self.kind.as_deref());
        object.string("doc", self.doc.as_deref()).finish()
    }
}

/// A line for each name. For people there is what it does behind it.
fn listing(methods: &[Method], is_for_people: bool) -> String {
    let width = |method: &Method| method.name.chars().count();
    let widest = methods.iter().map(width).max().unwrap_or_default();
    let mut lines = String::new();
    for method in methods {
        let escaped = if is_for_people { escape_message } else { escape_controls };
        let name = escaped(&method.name);
        lines.push_str(&name);
        if is_for_people {
            let is_stream = method.kind.as_deref() == Some("stream");
            let stream = is_stream.then(|| "(stream)".to_string());
            let doc = method.doc.as_deref().and_then(|doc| doc.lines().next()).map(escape_message);
            let words: Vec<_> = stream.into_iter().chain(doc).collect();
            if !words.is_empty() {
                lines.extend(std::iter::repeat_n(' ', widest.saturating_sub(name.chars().count()) + 2));
                lines.push_str(&words.join(" "));
            }
        }
        lines.push('\n');
    }
    lines
}

const USAGE: &str =
    "it is \"procbridge describe ENDPOINT [METHOD]\", as in \"procbridge describe :8000 sum\"";
/// A name that is less like than this was not meant.
const MIN_SIMILARITY: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_a_line_about_each_method_and_programs_the_names() {
        let method = |name: &str, kind: &str, doc: Option<&str>| Method {
            name: name.to_string(),
            kind: Some(kind.to_string()),
            doc: doc.map(str::to_string),
        };
        let methods = [
            method("count", "stream", Some("Counts.\nSlowly.")),
            method("e\u{1b}", "method", None),
            method("sum", "method", Some("Adds.")),
        ];
        assert_eq!(listing(&methods, false), "count\ne\\u{1b}\nsum\n");
        assert_eq!(listing(&methods, true), "count  (stream) Counts.\ne\\u{1b}\nsum    Adds.\n");
    }
}

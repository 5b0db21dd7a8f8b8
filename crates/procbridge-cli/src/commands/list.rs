//! `procbridge list`: prints the methods of a server.

use crate::args::list::ListArgs;
use crate::args::target::Target;
use crate::client::builtin;
use crate::client::description::{Method, entries};
use crate::error::CliError;
use crate::terminal::stdout;
use crate::text::unprintable::{escape_controls, escape_message};

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

//! `procbridge list`: prints the names of a server's methods.

use crate::args::list::ListArgs;
use crate::args::target::Target;
use crate::client::builtin;
use crate::client::description::{self, MethodDescription};
use crate::error::CliError;
use crate::terminal::stdout;
use crate::text::unprintable::{escape_controls, escape_message};

/// Prints the names of the methods, and for people their documentation.
pub(crate) fn run(args: &ListArgs) -> Result<(), CliError> {
    let endpoint = Target::endpoint(args.builtin.endpoint.as_ref())?;
    let reply = builtin::call(&args.builtin, endpoint, "$/describe", "methods")?;
    let methods: Vec<_> = description::parse(&reply)?.into_iter().map(|(method, _)| method).collect();
    if args.builtin.json {
        let methods: Vec<_> = methods.iter().map(MethodDescription::json).collect();
        return stdout::write_envelope(reply.envelope(&format!("[{}]", methods.join(","))), 0);
    }
    stdout::write(&listing(&methods, stdout::is_terminal()))
}

/// Returns a line for each method. For people the line has the first line of the documentation.
fn listing(methods: &[MethodDescription], is_for_people: bool) -> String {
    let width = methods.iter().map(|method| method.name.chars().count()).max().unwrap_or_default();
    let line = |method: &MethodDescription| {
        if !is_for_people {
            return escape_controls(&method.name) + "\n";
        }
        let stream = (method.kind.as_deref() == Some("stream")).then(|| "(stream)".to_string());
        let doc = method.doc.as_deref().and_then(|doc| doc.lines().next()).map(escape_message);
        let about: Vec<_> = stream.into_iter().chain(doc).collect();
        let line = format!("{:<width$}  {}", escape_message(&method.name), about.join(" "));
        line.trim_end().to_string() + "\n"
    };
    methods.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_a_line_about_each_method_and_programs_the_names() {
        let method = |name: &str, kind: &str, doc: Option<&str>| MethodDescription {
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

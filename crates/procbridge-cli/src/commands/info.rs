//! `procbridge info`: shows the protocol, name, limits and compressions of a server.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::info::InfoArgs;
use crate::args::target::Target;
use crate::capture::observed::{Hello, Observed};
use crate::client::builtin;
use crate::dissect::names;
use crate::error::CliError;
use crate::json::envelope;
use crate::json::object::Object;
use crate::json::string::quote;
use crate::terminal::stdout;
use crate::text::unprintable::escape_message;

/// The settings of a session, from the body of a HELLO. A missing or malformed value means the protocol's default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    max_body: Option<serde_json::Value>,
    max_calls: Option<serde_json::Value>,
    stream_window: Option<serde_json::Value>,
    stream_bytes: Option<serde_json::Value>,
    name: Option<serde_json::Value>,
}

/// The part of the answer of `$/describe` that concerns the whole server.
#[derive(Debug, Deserialize)]
struct Description {
    name: Option<String>,
    methods: Vec<serde::de::IgnoredAny>,
    protocol: Option<Vec<String>>,
}

/// Prints the facts about the server.
pub(crate) fn run(args: &InfoArgs) -> Result<(), CliError> {
    let endpoint = Target::endpoint(args.builtin.endpoint.as_ref())?;
    let (observed, described, elapsed) = builtin::probe(&args.builtin, &endpoint, "$/describe")?;
    let endpoint = endpoint.to_string();
    let facts = facts(&endpoint, &observed, described.as_deref());
    let json = facts.iter().fold(Object::new(), |object, (key, fact)| object.member(key, fact.json()));
    let json = json.finish();
    if args.builtin.json {
        return stdout::write_envelope(envelope::success(&json, elapsed).finish(), 0);
    }
    if !stdout::is_terminal() {
        return stdout::write_line(json);
    }
    stdout::write(&listing(&facts))
}

/// One fact about a server.
#[derive(Debug, PartialEq)]
enum Fact {
    Text(String),
    Number(u64),
    List(Vec<String>),
    Unknown,
}

/// Returns all facts, with the same keys for every server.
fn facts(endpoint: &str, observed: &Observed, described: Option<&RawValue>) -> Vec<(&'static str, Fact)> {
    let settings = observed.hello.as_ref().map(Hello::settings);
    let described: Option<Description> = described.and_then(|text| serde_json::from_str(text.get()).ok());
    let text = |text: &str| Fact::Text(text.to_string());
    let number = |value: fn(&Settings) -> &Option<serde_json::Value>, default| match &settings {
        Some(settings) => {
            Fact::Number(value(settings).as_ref().and_then(serde_json::Value::as_u64).unwrap_or(default))
        }
        None => Fact::Unknown,
    };
    let hello_name =
        settings.as_ref().and_then(|settings| settings.name.as_ref()?.as_str().map(str::to_string));
    let name = hello_name.or(described.as_ref().and_then(|described| described.name.clone()));
    let transport = if endpoint.starts_with("tcp:") { "tcp" } else { "unix" };
    let codecs = |hello: &Hello| names::codec_names(hello.options).iter().map(ToString::to_string).collect();
    vec![
        ("endpoint", text(endpoint)),
        ("transport", text(transport)),
        ("peer", observed.peer.as_deref().map_or(Fact::Unknown, text)),
        ("protocol", text(if settings.is_some() { "session" } else { "classic" })),
        ("version", text("1.1")),
        ("name", name.map_or(Fact::Unknown, Fact::Text)),
        ("max_body", number(|settings| &settings.max_body, 16 << 20)),
        ("max_calls", number(|settings| &settings.max_calls, 128)),
        ("stream_window", number(|settings| &settings.stream_window, 64)),
        ("stream_bytes", number(|settings| &settings.stream_bytes, 1 << 20)),
        ("codecs", observed.hello.as_ref().map_or(Fact::Unknown, |hello| Fact::List(codecs(hello)))),
        (
            "methods",
            described
                .as_ref()
                .map_or(Fact::Unknown, |described| Fact::Number(described.methods.len() as u64)),
        ),
        (
            "protocol_methods",
            described.and_then(|described| described.protocol).map_or(Fact::Unknown, Fact::List),
        ),
    ]
}

/// Returns a line for each fact.
fn listing(facts: &[(&str, Fact)]) -> String {
    facts.iter().map(|(key, fact)| format!("{:<16}  {}\n", key.replace('_', " "), fact.shown(key))).collect()
}

impl Hello {
    fn settings(&self) -> Settings {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Fact {
    fn json(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(number) => number.to_string(),
            Self::List(words) => {
                format!("[{}]", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(","))
            }
            Self::Unknown => "null".to_string(),
        }
    }

    fn shown(&self, key: &str) -> String {
        match (self, key) {
            (Self::Text(text), "protocol") => match text.as_str() {
                "classic" => "classic: a connection for each call".to_string(),
                _ => "sessions".to_string(),
            },
            (Self::Text(text), _) => escape_message(text),
            (Self::Number(bytes), "max_body" | "stream_bytes") => format!("{bytes} B"),
            (Self::Number(number), _) => number.to_string(),
            (Self::List(words), _) if words.is_empty() => "none".to_string(),
            (Self::List(words), _) => escape_message(&words.join(" ")),
            (Self::Unknown, _) => "unknown".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_server_tells_nothing_of_itself() {
        let observed = Observed { peer: Some("tcp:127.0.0.1:1".to_string()), hello: None };
        let lines = listing(&facts("tcp:127.0.0.1:1", &observed, None));
        assert!(lines.contains("protocol          classic: a connection for each call\n"), "{lines}");
        assert_eq!(lines.matches("unknown\n").count(), 8, "{lines}");
    }

    #[test]
    fn what_a_hello_does_not_say_has_its_default() {
        let hello = |body: &str| Hello { options: 1, body: body.as_bytes().to_vec() };
        let observed =
            Observed { peer: None, hello: Some(hello(r#"{"session":1,"max_body":1024,"max_calls":"x"}"#)) };
        let facts = facts("unix:/a", &observed, None);
        let fact = |key: &str| &facts.iter().find(|(name, _)| *name == key).unwrap().1;
        assert_eq!(*fact("max_body"), Fact::Number(1024));
        assert_eq!(*fact("max_calls"), Fact::Number(128));
        assert_eq!(*fact("codecs"), Fact::List(vec!["lz4".to_string()]));
        assert_eq!(*fact("peer"), Fact::Unknown);
    }
}

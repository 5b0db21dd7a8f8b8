//! The description of a server's methods.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::builtin::BuiltinReply;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::object::Object;

/// The answer of `$/describe`.
#[derive(Debug, Deserialize)]
struct Description<'a> {
    #[serde(borrow)]
    methods: Vec<&'a RawValue>,
}

/// The part of a method's description that a list shows.
#[derive(Debug, Deserialize)]
pub(crate) struct MethodDescription {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) doc: Option<String>,
}

impl MethodDescription {
    /// Returns the description as JSON.
    pub(crate) fn json(&self) -> String {
        let object = Object::new().string("name", self.name.as_str()).string("kind", self.kind.as_deref());
        object.string("doc", self.doc.as_deref()).finish()
    }
}

/// Parses the answer of `$/describe`. Returns the methods, each with the text of its whole description.
pub(crate) fn parse(reply: &BuiltinReply) -> Result<Vec<(MethodDescription, &str)>, CliError> {
    let invalid = |error: serde_json::Error| {
        let message = format!("the server's description cannot be parsed: {error}");
        CliError::new(ExitCode::Protocol, "protocol", message).with_outcome(procbridge::Outcome::Replied)
    };
    let description: Description<'_> = serde_json::from_str(reply.payload.get()).map_err(invalid)?;
    let entries = description.methods.into_iter().map(RawValue::get);
    entries.map(|text| Ok((serde_json::from_str(text).map_err(invalid)?, text))).collect()
}

//! The methods of a server.

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

/// One of its methods, as far as a list shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Method {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) doc: Option<String>,
}

impl Method {
    pub(crate) fn envelope(&self) -> String {
        let object = Object::new().string("name", self.name.as_str()).string("kind", self.kind.as_deref());
        object.string("doc", self.doc.as_deref()).finish()
    }
}

/// The methods, each with all that is said of it.
pub(crate) fn entries(answer: &BuiltinReply) -> Result<Vec<(Method, &str)>, CliError> {
    let strange = |error: serde_json::Error| {
        let message = format!("the description cannot be read: {error}");
        CliError::new(ExitCode::Protocol, "protocol", message).with_outcome(procbridge::Outcome::Replied)
    };
    let description: Description<'_> = serde_json::from_str(answer.payload.get()).map_err(strange)?;
    let entries = description.methods.into_iter().map(RawValue::get);
    entries.map(|text| Ok((serde_json::from_str(text).map_err(strange)?, text))).collect()
}

//! JSON objects.

use std::fmt::{Display, Write as _};

use crate::json::string::quote;

/// A JSON object made of members whose values are JSON text already.
#[derive(Debug)]
pub(crate) struct Object {
    text: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { text: "{".to_string() }
    }

    /// Adds a member. `json` must format as one JSON value.
    pub(crate) fn member(mut self, key: &str, json: impl Display) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        let _ = write!(self.text, "{}:{json}", quote(key));
        self
    }

    /// Adds a member whose value is a string or null.
    pub(crate) fn string<'a>(self, key: &str, value: impl Into<Option<&'a str>>) -> Self {
        self.member(key, value.into().map_or("null".to_string(), quote))
    }

    /// Returns the text of the object.
    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_put_together() {
        let object = Object::new().string("a\"\u{1}", "\n\\").member("b", "[1]").string("c", None).finish();
        assert_eq!(object, r#"{"a\"\u0001":"\n\\","b":[1],"c":null}"#);
        assert_eq!(Object::new().finish(), "{}");
    }
}

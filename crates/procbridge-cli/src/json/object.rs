//! Puts JSON objects together.

use crate::text::unprintable::push_json_escape;

/// Appends `text` as a JSON string.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => push_json_escape(out, c),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// A JSON object that is put together from members whose values are JSON text already.
#[derive(Debug)]
pub(crate) struct Object {
    text: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { text: "{".to_string() }
    }

    /// Adds a member; `json` must be one JSON value.
    pub(crate) fn member(mut self, key: &str, json: &str) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        push_quoted(&mut self.text, key);
        self.text.push(':');
        self.text.push_str(json);
        self
    }

    /// Adds a member that is a string, or null.
    pub(crate) fn string<'a>(self, key: &str, value: impl Into<Option<&'a str>>) -> Self {
        let mut json = String::new();
        match value.into() {
            Some(value) => push_quoted(&mut json, value),
            None => json.push_str("null"),
        }
        self.member(key, &json)
    }

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

//! A writer of JSON objects, member by member, for the answers of built-in methods. A tree of values would take a tenth
//! of a small server's code.

use crate::json::serialize;

/// An object whose members are being appended to a text.
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// Begins a member, and returns the buffer to append its value to.
    pub(crate) fn member(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        write_text(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        write_text(self.member(key), text);
    }

    pub(crate) fn number(&mut self, key: &str, number: u64) {
        // Every number can be serialized.
        let _ = serialize::write(self.member(key), &number);
    }

    pub(crate) fn names(&mut self, key: &str, names: &[&str]) {
        let out = self.member(key);
        out.push(b'[');
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_text(out, name);
        }
        out.push(b']');
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Every string can be serialized.
    let _ = serialize::write(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_one_after_another() {
        let mut text = Vec::new();
        let mut object = ObjectWriter::begin(&mut text);
        ObjectWriter::begin(object.member("a\"b")).end();
        object.number("n", u64::MAX);
        object.text("t", "\n");
        object.names("none", &[]);
        object.names("two", &["x", "y"]);
        object.end();
        let expected = r#"{"a\"b":{},"n":18446744073709551615,"t":"\n","none":[],"two":["x","y"]}"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}

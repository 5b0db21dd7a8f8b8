//! A pair.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::value::RawValue;

use crate::args::utf8::not_utf8;
use crate::error::CliError;
use crate::input::json_text::{json, not_json, quoted, string};
use crate::input::source::read_source;
use crate::text::byte_order_mark::strip_byte_order_mark;

/// `KEY=STRING` or `KEY:=JSON`.
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: &'a OsStr,
    pub(crate) is_json: bool,
}

impl<'a> Pair<'a> {
    pub(crate) fn of(word: &'a OsStr) -> Option<Self> {
        let word = word.as_bytes();
        let (key, value) = word.split_at_checked(word.iter().position(|&byte| byte == b'=')?)?;
        let (key, value) = (str::from_utf8(key).ok()?, OsStr::from_bytes(value.get(1..)?));
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        // Broken JSON and addresses of the web have "=" in them too; they must not become keys.
        let strange = |c: char| c.is_whitespace() || c.is_control() || "{}[]\"'`,/?&".contains(c);
        (!key.is_empty() && !key.contains(strange)).then_some(Self { key, value, is_json })
    }

    pub(crate) fn json(&self, limit: u32) -> Result<Box<RawValue>, CliError> {
        if self.value.as_bytes().starts_with(b"@") {
            let (what, text) = read_source(self.value, limit)?;
            return if self.is_json { json(&what, text) } else { string(&text) };
        }
        let value = self.value.to_str().ok_or_else(|| not_utf8(self.value))?;
        if !self.is_json {
            return string(value);
        }
        RawValue::from_string(strip_byte_order_mark(value).to_string()).map_err(|error| {
            not_json(&format!("the value of {:?}", self.key), strip_byte_order_mark(value), &error)
                .with_hint(format!("as a string it is written {}", quoted(&format!("{}={value}", self.key))))
        })
    }
}

/// The key and the value of one pair.
pub(crate) fn entry(word: &OsStr, limit: u32) -> Result<(String, Box<RawValue>), CliError> {
    let pair = Pair::of(word);
    let pair = pair.ok_or_else(|| {
        CliError::usage(format!("the entry {word:?} of --meta is neither KEY=STRING nor KEY:=JSON"))
    })?;
    Ok((pair.key.to_string(), pair.json(limit)?))
}

//! Pairs of a key and a value on the command line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::value::RawValue;

use crate::args::connect::RAISE_MAX_BODY;
use crate::args::utf8::not_utf8;
use crate::error::CliError;
use crate::input::json_text::{json_string, parse_json, shell_quote};
use crate::input::source::Source;

/// `KEY=STRING` or `KEY:=JSON`.
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a str,
    value: &'a OsStr,
    is_json: bool,
}

impl<'a> Pair<'a> {
    /// Splits `word`, if it is a pair.
    pub(crate) fn parse(word: &'a OsStr) -> Option<Self> {
        let word = word.as_bytes();
        let (key, value) = word.split_at_checked(word.iter().position(|&byte| byte == b'=')?)?;
        let (key, value) = (str::from_utf8(key).ok()?, OsStr::from_bytes(value.get(1..)?));
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        // Invalid JSON and URLs have "=" in them too, and must not become keys.
        let is_invalid = |c: char| c.is_whitespace() || c.is_control() || "{}[]\"'`,/?&".contains(c);
        (!key.is_empty() && !key.contains(is_invalid)).then_some(Self { key, value, is_json })
    }

    /// Returns the value as JSON. A file or standard input has `limit` bytes at most.
    pub(crate) fn json(&self, limit: u32) -> Result<Box<RawValue>, CliError> {
        if self.value.as_bytes().starts_with(b"@") {
            let (name, text) = Source::read(self.value, limit, RAISE_MAX_BODY)?.into_text()?;
            return if self.is_json { parse_json(&name, &text) } else { json_string(&text) };
        }
        let value = self.value.to_str().ok_or_else(|| not_utf8(self.value))?;
        if !self.is_json {
            return json_string(value);
        }
        parse_json(&format!("the value of {:?}", self.key), value).map_err(|error| {
            error.with_hint(format!("a string is written {}", shell_quote(&format!("{}={value}", self.key))))
        })
    }
}

/// Returns the key and the value of an entry of `--meta`.
pub(crate) fn meta_entry(word: &OsStr, limit: u32) -> Result<(String, Box<RawValue>), CliError> {
    let pair = Pair::parse(word);
    let pair = pair.ok_or_else(|| {
        CliError::usage(format!("the entry {word:?} of --meta is neither KEY=STRING nor KEY:=JSON"))
    })?;
    Ok((pair.key.to_string(), pair.json(limit)?))
}

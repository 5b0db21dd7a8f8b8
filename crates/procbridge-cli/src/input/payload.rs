//! The payload of a call, made of the words after the method.

use std::ffi::{OsStr, OsString};

use serde_json::value::RawValue;

use crate::args::connect::RAISE_MAX_BODY;
use crate::args::utf8::not_utf8;
use crate::error::CliError;
use crate::input::json_text::{parse_json, shell_quote};
use crate::input::pair::Pair;
use crate::input::source::Source;
use crate::json::object::Object;
use crate::json::string::quote;

/// Returns the payload that `words` make. A file or standard input has `limit` bytes at most.
pub(crate) fn read_payload(words: &[OsString], limit: u32) -> Result<Option<Box<RawValue>>, CliError> {
    let word = match words {
        [] => return Ok(None),
        [word] => word,
        words => return read_object(words, limit).map(Some),
    };
    if Source::is_named_by(word) {
        let (name, text) = Source::read(word, limit, RAISE_MAX_BODY)?.into_text()?;
        return parse_json(&name, &text).map(Some);
    }
    let is_pair = Pair::parse(word).is_some();
    let parsed = match word.to_str() {
        Some(text) => parse_json("the payload", text).map_err(|error| error.with_hint(json_hint(text))),
        None => Err(not_utf8(word)),
    };
    match parsed {
        Err(_) if is_pair => read_object(words, limit).map(Some),
        parsed => parsed.map(Some),
    }
}

/// Returns the object that pairs make, in their order.
fn read_object(words: &[OsString], limit: u32) -> Result<Box<RawValue>, CliError> {
    let (mut object, mut keys) = (Object::new(), Vec::with_capacity(words.len()));
    for word in words {
        let Some(pair) = Pair::parse(word) else { return Err(not_pair(words, word)) };
        if keys.contains(&pair.key) {
            return Err(CliError::usage(format!("the key {:?} is given twice", pair.key)));
        }
        keys.push(pair.key);
        object = object.member(pair.key, pair.json(limit)?.get());
    }
    parse_json("the payload", &object.finish())
}

fn not_pair(words: &[OsString], word: &OsStr) -> CliError {
    let error = CliError::usage(format!("the argument {word:?} is neither KEY=STRING nor KEY:=JSON"));
    let joined = words.join(OsStr::new(" "));
    let joined = joined.to_string_lossy();
    error.with_hint(match serde_json::from_str::<&RawValue>(&joined) {
        Ok(_) => format!("JSON is one argument, quoted for the shell: {}", shell_quote(&joined)),
        Err(_) => "JSON is one argument; several arguments are pairs that make an object".to_string(),
    })
}

/// Returns the hint for a single word that is not JSON.
fn json_hint(word: &str) -> String {
    if word.starts_with(['{', '[', '"']) {
        return "JSON is one argument; quote it for the shell, as in '{\"key\":\"value\"}'".to_string();
    }
    format!("a string is written {}", shell_quote(&quote(word)))
}

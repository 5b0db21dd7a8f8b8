//! What stands behind the method on the command line becomes JSON text, and stays the text that it is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde_json::value::RawValue;

use crate::args::utf8::not_utf8;
use crate::error::CliError;
use crate::input::json_text::{json, json_hint, not_json, quoted};
use crate::input::pair::Pair;
use crate::input::source::{STANDARD_INPUT, read_source, standard_input};
use crate::json::object::Object;
use crate::text::byte_order_mark::strip_byte_order_mark;

/// The payload that `words` make; none if there are none. Nothing longer than `limit` bytes is read.
pub(crate) fn read(words: &[OsString], limit: u32) -> Result<Option<Box<RawValue>>, CliError> {
    let [word] = words else {
        return if words.is_empty() { Ok(None) } else { object(words, limit).map(Some) };
    };
    if word == "-" {
        return json(STANDARD_INPUT, standard_input(limit)?).map(Some);
    }
    if word.as_bytes().starts_with(b"@") {
        let (what, text) = read_source(word, limit)?;
        return json(&what, text).map(Some);
    }
    let pair = Pair::of(word);
    let Some(text) = word.to_str() else {
        return if pair.is_some() { object(words, limit).map(Some) } else { Err(not_utf8(word)) };
    };
    match RawValue::from_string(strip_byte_order_mark(text).to_string()) {
        Ok(payload) => Ok(Some(payload)),
        Err(_) if pair.is_some() => object(words, limit).map(Some),
        Err(error) => {
            Err(not_json("the payload", strip_byte_order_mark(text), &error).with_hint(json_hint(text)))
        }
    }
}

/// Pairs make an object, in their order.
fn object(words: &[OsString], limit: u32) -> Result<Box<RawValue>, CliError> {
    let (mut object, mut keys) = (Object::new(), Vec::with_capacity(words.len()));
    for word in words {
        let Some(pair) = Pair::of(word) else { return Err(no_pair(words, word)) };
        if keys.contains(&pair.key) {
            return Err(CliError::usage(format!("the key {:?} is given twice", pair.key)));
        }
        keys.push(pair.key);
        object = object.member(pair.key, pair.json(limit)?.get());
    }
    json("the payload", object.finish())
}

fn no_pair(words: &[OsString], word: &OsStr) -> CliError {
    let failure = CliError::usage(format!("the argument {word:?} is neither KEY=STRING nor KEY:=JSON"));
    let whole = words.join(OsStr::new(" "));
    let whole = whole.to_string_lossy();
    failure.with_hint(match serde_json::from_str::<&RawValue>(&whole) {
        Ok(_) => format!("JSON is one argument, quoted for the shell: {}", quoted(&whole)),
        Err(_) => "JSON is one argument, several arguments are pairs that make an object".to_string(),
    })
}

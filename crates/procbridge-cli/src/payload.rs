//! What stands behind the method on the command line becomes JSON text, and stays the text that it is.

use std::fs::File;
use std::io::{self, Read};

use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::json_text::Object;
use crate::output;

/// The payload that `words` make; none if there are none. Nothing longer than `limit` bytes is read.
pub(crate) fn read(words: &[String], limit: u32) -> Result<Option<Box<RawValue>>, Failure> {
    let [word] = words else {
        return if words.is_empty() { Ok(None) } else { object(words, limit).map(Some) };
    };
    if word == "-" {
        let what = "the payload from standard input";
        return json(what, contents(what, io::stdin().lock(), limit)?).map(Some);
    }
    if let Some(path) = word.strip_prefix('@') {
        return json(path, file(path, limit)?).map(Some);
    }
    match RawValue::from_string(word.clone()) {
        Ok(payload) => Ok(Some(payload)),
        Err(_) if Pair::of(word).is_some() => object(words, limit).map(Some),
        Err(error) => Err(not_json("the payload", word, &error).with_help(advice(word))),
    }
}

/// The key and the value of one pair.
pub(crate) fn entry(word: &str, limit: u32) -> Result<(String, Box<RawValue>), Failure> {
    let pair = Pair::of(word);
    let pair = pair.ok_or_else(|| {
        Failure::usage(format!("the entry {word:?} of --meta is neither KEY=STRING nor KEY:=JSON"))
    })?;
    Ok((pair.key.to_string(), pair.json(limit)?))
}

/// `KEY=STRING` or `KEY:=JSON`.
struct Pair<'a> {
    key: &'a str,
    value: &'a str,
    is_json: bool,
}

impl<'a> Pair<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let (key, value) = word.split_once('=')?;
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        // Broken JSON and addresses of the web have "=" in them too; they must not become keys.
        let strange = |c: char| c.is_whitespace() || c.is_control() || "{}[]\"'`,/?&".contains(c);
        (!key.is_empty() && !key.contains(strange)).then_some(Self { key, value, is_json })
    }

    fn json(&self, limit: u32) -> Result<Box<RawValue>, Failure> {
        let from_file = self.value.strip_prefix('@');
        match (self.is_json, from_file) {
            (true, Some(path)) => json(path, file(path, limit)?),
            (true, None) => RawValue::from_string(self.value.to_string()).map_err(|error| {
                not_json(&format!("the value of {:?}", self.key), self.value, &error).with_help(format!(
                    "as a string it is written {}",
                    quoted(&format!("{}={}", self.key, self.value))
                ))
            }),
            (false, Some(path)) => string(&file(path, limit)?),
            (false, None) => string(self.value),
        }
    }
}

/// Pairs make an object, in their order.
fn object(words: &[String], limit: u32) -> Result<Box<RawValue>, Failure> {
    let (mut object, mut keys) = (Object::new(), Vec::with_capacity(words.len()));
    for word in words {
        let Some(pair) = Pair::of(word) else { return Err(no_pair(words, word)) };
        if keys.contains(&pair.key) {
            return Err(Failure::usage(format!("the key {:?} is given twice", pair.key)));
        }
        keys.push(pair.key);
        object = object.member(pair.key, pair.json(limit)?.get());
    }
    json("the payload", object.finish())
}

fn no_pair(words: &[String], word: &str) -> Failure {
    let failure = Failure::usage(format!("the argument {word:?} is neither KEY=STRING nor KEY:=JSON"));
    let whole = words.join(" ");
    failure.with_help(match serde_json::from_str::<&RawValue>(&whole) {
        Ok(_) => format!("JSON is one argument, quoted for the shell: {}", quoted(&whole)),
        Err(_) => "JSON is one argument, several arguments are pairs that make an object".to_string(),
    })
}

fn string(text: &str) -> Result<Box<RawValue>, Failure> {
    let mut json_text = String::new();
    crate::json_text::push_quoted(&mut json_text, text);
    json("the payload", json_text)
}

fn json(what: &str, text: String) -> Result<Box<RawValue>, Failure> {
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("{what} is empty"))
            .with_help("a call without a payload has no argument behind the method"));
    }
    // The text is needed for the error only, and to copy a large one for it would be a waste.
    if let Err(error) = serde_json::from_str::<&RawValue>(&text) {
        return Err(not_json(what, &text, &error));
    }
    RawValue::from_string(text).map_err(|error| Failure::usage(format!("{what} is not JSON: {error}")))
}

fn file(path: &str, limit: u32) -> Result<String, Failure> {
    let cannot = |error| Failure::usage(format!("cannot read {path}: {}", output::plain(&error)));
    contents(path, File::open(path).map_err(cannot)?, limit)
}

fn contents(what: &str, source: impl Read, limit: u32) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source
        .take(u64::from(limit) + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("cannot read {what}: {}", output::plain(&error))))?;
    if bytes.len() > limit as usize {
        return Err(Failure::usage(format!("{what} exceeds the limit of {limit} B (max_body)"))
            .with_help("--max-body sets another limit; the server has its own"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("{what} is not UTF-8: invalid sequence at byte {at}"))
    })
}

/// Says where `text` stops being JSON.
fn not_json(what: &str, text: &str, error: &serde_json::Error) -> Failure {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        let reason = reason.strip_prefix("EOF while parsing ").unwrap_or("a value");
        return Failure::usage(format!("{what} is not JSON: it ends inside {reason}"));
    }
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let mut start = error.column().saturating_sub(1).min(line.len());
    while !line.is_char_boundary(start) {
        start -= 1;
    }
    let mut here: String = line.get(start..).unwrap_or_default().chars().take(EXCERPT).collect();
    if line.len() > start + here.len() {
        here.push_str("...");
    }
    let place = match text.contains('\n') {
        true => format!("line {}, column {}", error.line(), error.column()),
        false => format!("column {}", error.column()),
    };
    Failure::usage(format!("{what} is not JSON: {reason} at {place}, here: {here}"))
}

/// What may have been meant by a single word that is not JSON.
fn advice(word: &str) -> String {
    if word.starts_with(['{', '[', '"']) {
        return "JSON is one argument in single quotes, which keep the shell away from it: '{\"key\":\"value\"}'"
            .to_string();
    }
    let mut json_text = String::new();
    crate::json_text::push_quoted(&mut json_text, word);
    format!("as a string it is written {}", quoted(&json_text))
}

/// `text` as it is written in a shell.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

/// Characters shown of a text that is not JSON.
const EXCERPT: usize = 24;

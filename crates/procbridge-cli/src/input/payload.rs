//! What stands behind the method on the command line becomes JSON text, and stays the text that it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;

use crate::args::words;
use crate::error::CliError;
use crate::json::layout::Object;
use crate::terminal::stdout;
use crate::text::unprintable::strip_byte_order_mark;

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
        return if pair.is_some() { object(words, limit).map(Some) } else { Err(words::not_utf8(word)) };
    };
    match RawValue::from_string(strip_byte_order_mark(text).to_string()) {
        Ok(payload) => Ok(Some(payload)),
        Err(_) if pair.is_some() => object(words, limit).map(Some),
        Err(error) => {
            Err(not_json("the payload", strip_byte_order_mark(text), &error).with_hint(json_hint(text)))
        }
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

/// `KEY=STRING` or `KEY:=JSON`.
struct Pair<'a> {
    key: &'a str,
    value: &'a OsStr,
    is_json: bool,
}

impl<'a> Pair<'a> {
    fn of(word: &'a OsStr) -> Option<Self> {
        let word = word.as_bytes();
        let (key, value) = word.split_at_checked(word.iter().position(|&byte| byte == b'=')?)?;
        let (key, value) = (str::from_utf8(key).ok()?, OsStr::from_bytes(value.get(1..)?));
        let (key, is_json) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        // Broken JSON and addresses of the web have "=" in them too; they must not become keys.
        let strange = |c: char| c.is_whitespace() || c.is_control() || "{}[]\"'`,/?&".contains(c);
        (!key.is_empty() && !key.contains(strange)).then_some(Self { key, value, is_json })
    }

    fn json(&self, limit: u32) -> Result<Box<RawValue>, CliError> {
        if self.value.as_bytes().starts_with(b"@") {
            let (what, text) = read_source(self.value, limit)?;
            return if self.is_json { json(&what, text) } else { string(&text) };
        }
        let value = self.value.to_str().ok_or_else(|| words::not_utf8(self.value))?;
        if !self.is_json {
            return string(value);
        }
        RawValue::from_string(strip_byte_order_mark(value).to_string()).map_err(|error| {
            not_json(&format!("the value of {:?}", self.key), strip_byte_order_mark(value), &error)
                .with_hint(format!("as a string it is written {}", quoted(&format!("{}={value}", self.key))))
        })
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

fn string(text: &str) -> Result<Box<RawValue>, CliError> {
    let mut json_text = String::new();
    crate::json::layout::push_quoted(&mut json_text, text);
    json("the payload", json_text)
}

/// Reads JSON. Some programs write a byte order mark before it, which is no part of the text.
fn json(what: &str, mut text: String) -> Result<Box<RawValue>, CliError> {
    let mark = text.len() - strip_byte_order_mark(&text).len();
    text.drain(..mark);
    if text.trim().is_empty() {
        return Err(CliError::usage(format!("{what} is empty"))
            .with_hint("a call without a payload has no argument behind the method"));
    }
    // The text is needed for the error only, and to copy a large one for it would be a waste.
    if let Err(error) = serde_json::from_str::<&RawValue>(&text) {
        return Err(not_json(what, &text, &error));
    }
    RawValue::from_string(text).map_err(|error| CliError::usage(format!("{what} is not JSON: {error}")))
}

/// Reads `@FILE`, or `@-`, which is standard input. Returns also what it was.
fn read_source(word: &OsStr, limit: u32) -> Result<(String, String), CliError> {
    if word == "@-" {
        return Ok((STANDARD_INPUT.to_string(), standard_input(limit)?));
    }
    let file = file_name(word)?;
    let path = file.display().to_string();
    let cannot = |error| CliError::usage(format!("cannot read {path}: {}", stdout::plain(&error)));
    let text = read_all(&path, File::open(file).map_err(cannot)?, limit)?;
    Ok((path, text))
}

/// The file that `@FILE` names.
pub(crate) fn file_name(word: &OsStr) -> Result<&Path, CliError> {
    match word.as_bytes().strip_prefix(b"@") {
        Some(name) if !name.is_empty() => Ok(Path::new(OsStr::from_bytes(name))),
        _ => {
            Err(CliError::usage("\"@\" names no file")
                .with_hint("a file is given as @FILE, standard input as -"))
        }
    }
}

/// Reads standard input, which can be read once.
fn standard_input(limit: u32) -> Result<String, CliError> {
    if STDIN_IS_READ.swap(true, Ordering::Relaxed) {
        return Err(CliError::usage("standard input is given twice, and can be read once"));
    }
    read_all(STANDARD_INPUT, io::stdin().lock(), limit)
}

fn read_all(what: &str, source: impl Read, limit: u32) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    source
        .take(u64::from(limit) + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::usage(format!("cannot read {what}: {}", stdout::plain(&error))))?;
    if bytes.len() > limit as usize {
        return Err(CliError::usage(format!("{what} exceeds the limit of {limit} B (max_body)"))
            .with_hint("--max-body sets another limit; the server has its own"));
    }
    String::from_utf8(bytes).map_err(|error| {
        if [[0xff, 0xfe], [0xfe, 0xff]].iter().any(|mark| error.as_bytes().starts_with(mark)) {
            return CliError::usage(format!("{what} is UTF-16"))
                .with_hint("\"iconv -f UTF-16 -t UTF-8\" makes it the UTF-8 that JSON needs");
        }
        let at = error.utf8_error().valid_up_to();
        CliError::usage(format!("{what} is not UTF-8: invalid sequence at byte {at}"))
    })
}

/// Says where `text` stops being JSON.
fn not_json(what: &str, text: &str, error: &serde_json::Error) -> CliError {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_eof() {
        let reason = reason.strip_prefix("EOF while parsing ").unwrap_or("a value");
        return CliError::usage(format!("{what} is not JSON: it ends inside {reason}"));
    }
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let mut start = error.column().saturating_sub(1).min(line.len());
    while !line.is_char_boundary(start) {
        start -= 1;
    }
    let mut here: String = line.get(start..).unwrap_or_default().chars().take(MAX_EXCERPT).collect();
    if line.len() > start + here.len() {
        here.push_str("...");
    }
    let place = match text.contains('\n') {
        true => format!("line {}, column {}", error.line(), error.column()),
        false => format!("column {}", error.column()),
    };
    CliError::usage(format!("{what} is not JSON: {reason} at {place}, here: {here}"))
}

/// What may have been meant by a single word that is not JSON.
fn json_hint(word: &str) -> String {
    if word.starts_with(['{', '[', '"']) {
        return "JSON is one argument in single quotes, which keep the shell away from it: '{\"key\":\"value\"}'"
            .to_string();
    }
    let mut json_text = String::new();
    crate::json::layout::push_quoted(&mut json_text, word);
    format!("as a string it is written {}", quoted(&json_text))
}

/// `text` as it is written in a shell.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_string(), |quoted| quoted.into_owned())
}

const STANDARD_INPUT: &str = "the payload from standard input";
/// Whether standard input was read.
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);
/// Characters shown of a text that is not JSON.
const MAX_EXCERPT: usize = 24;

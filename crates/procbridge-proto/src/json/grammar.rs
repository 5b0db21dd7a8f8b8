//! JSON text without a value tree (PB-BODY-*): one pass that checks the grammar and finds the members of the
//! body's object.
//!
//! Payloads are never decoded here: they stay the text that was sent. The pass proves that they are JSON, so no handler
//! and no caller gets a broken one. There is no recursion: nesting costs one bit a level.

use alloc::borrow::Cow;
use core::ops::Range;

use crate::error::ProtocolError;
use crate::json::brackets;
use crate::json::fast_scan;
use crate::json::string;

/// Checks that `body` is one JSON object. Calls `member` with each of its keys, unescaped, and the range of its value
/// in `body`.
#[inline(always)]
pub(crate) fn members(
    body: &str,
    max_depth: u32,
    member: impl FnMut(&str, Range<usize>),
) -> Result<(), ProtocolError> {
    members_but(body, max_depth, "", member)
}

/// Does the same as [`members`], and leaves the value of the key `left` unchecked. Of an object or array there, only
/// the depth and the end are checked. Such a value must go to a parser, or be [checked](check) first. An empty `left`
/// leaves no value.
#[inline(always)]
pub(crate) fn members_but(
    body: &str,
    max_depth: u32,
    left: &str,
    mut member: impl FnMut(&str, Range<usize>),
) -> Result<(), ProtocolError> {
    match fast_members(body, max_depth, left, &mut member) {
        Some(()) => Ok(()),
        // This finds members again that were found already.
        None => scan_members(body, max_depth, &mut member),
    }
}

/// Does the same for a valid body without escaped keys. Returns `None` for others, which may be valid too.
#[inline(always)]
fn fast_members(
    body: &str,
    max_depth: u32,
    left: &str,
    member: &mut impl FnMut(&str, Range<usize>),
) -> Option<()> {
    let bytes = body.as_bytes();
    let levels = max_depth.checked_sub(1)?;
    let mut at = fast_scan::space(bytes, 0);
    if *bytes.get(at)? != b'{' {
        return None;
    }
    at = fast_scan::space(bytes, at + 1);
    let mut has_left = false;
    if *bytes.get(at)? != b'}' {
        loop {
            let (key, start) = usual_key(bytes.get(at..)?).map_or_else(
                || {
                    let end = fast_scan::plain_key(bytes, at)?;
                    Some((body.get(at + 1..end - 1)?, fast_scan::colon(bytes, end)?))
                },
                |key| Some((key, fast_scan::space(bytes, at + key.len() + 3))),
            )?;
            let is_left = !left.is_empty() && key == left;
            if is_left && has_left {
                // Only the last of several equal keys goes to a parser.
                return None;
            }
            has_left |= is_left;
            at = if is_left {
                brackets::value(bytes, start, levels)?
            } else {
                fast_scan::value(bytes, start, levels)?
            };
            member(key, start..at);
            at = fast_scan::space(bytes, at);
            match *bytes.get(at)? {
                b',' => at = fast_scan::space(bytes, at + 1),
                b'}' => break,
                _ => return None,
            }
        }
    }
    if fast_scan::space(bytes, at + 1) == bytes.len() { Some(()) } else { None }
}

/// Returns the key at the front of `rest`, if it is a usual one in its usual form.
#[inline(always)]
fn usual_key(rest: &[u8]) -> Option<&'static str> {
    if rest.starts_with(b"\"payload\":") {
        Some("payload")
    } else if rest.starts_with(b"\"method\":") {
        Some("method")
    } else {
        None
    }
}

/// Does the same as [`members`], for small or rare bodies: it is slower, and compiled once.
pub(crate) fn scan_members(
    body: &str,
    max_depth: u32,
    member: &mut dyn FnMut(&str, Range<usize>),
) -> Result<(), ProtocolError> {
    let mut scan = Scan { text: body, bytes: body.as_bytes(), at: 0, max_depth };
    scan.space();
    if scan.peek() != Some(b'{') {
        let found = kind(body.get(scan.at..).unwrap_or_default());
        scan.value(0)?;
        scan.end()?;
        return Err(ProtocolError::NotAnObject { found });
    }
    if max_depth == 0 {
        return Err(ProtocolError::TooDeep { limit: 0 });
    }
    scan.at += 1;
    scan.space();
    if scan.peek() == Some(b'}') {
        scan.at += 1;
        return scan.end();
    }
    loop {
        let key = scan.key()?;
        scan.space();
        let start = scan.at;
        scan.value(1)?;
        member(&key, start..scan.at);
        scan.space();
        match scan.peek() {
            Some(b',') => scan.at += 1,
            Some(b'}') => break,
            _ => return scan.expected("',' or '}'"),
        }
        scan.space();
    }
    scan.at += 1;
    scan.end()
}

/// Checks that `text` is exactly one JSON value.
pub(crate) fn check(text: &str, max_depth: u32) -> Result<(), ProtocolError> {
    let bytes = text.as_bytes();
    let end = fast_scan::value(bytes, fast_scan::space(bytes, 0), max_depth)
        .map(|end| fast_scan::space(bytes, end));
    if end == Some(bytes.len()) { Ok(()) } else { scan(text, max_depth) }
}

/// Does the same as [`check`], slower, with the reason for an error.
fn scan(text: &str, max_depth: u32) -> Result<(), ProtocolError> {
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, max_depth };
    scan.space();
    scan.value(0)?;
    scan.end()
}

/// Names the kind of a JSON value by its first character.
pub(crate) fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        None => "nothing",
        _ => "a number",
    }
}

/// The state of the pass: a position in the text.
struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    max_depth: u32,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, ProtocolError> {
        Err(ProtocolError::InvalidJson { at: self.at, expected })
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), ProtocolError> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { self.expected("the end of the body") }
    }

    /// Reads a key and the colon behind it.
    fn key(&mut self) -> Result<Cow<'a, str>, ProtocolError> {
        if self.peek() != Some(b'"') {
            return self.expected("a key in double quotes");
        }
        let start = self.at + 1;
        self.string()?;
        let inner = self.text.get(start..self.at - 1).unwrap_or_default();
        self.space();
        if self.peek() != Some(b':') {
            return self.expected("':'");
        }
        self.at += 1;
        Ok(string::unescape(inner).text)
    }

    /// Skips one value of any kind, which is `outer` levels deep.
    fn value(&mut self, outer: u32) -> Result<(), ProtocolError> {
        // Bit n tells whether the container at level n, counted from this value, is an object.
        let mut objects: u128 = 0;
        let mut depth = 0_u32;
        'value: loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if outer + depth >= self.max_depth {
                        return Err(ProtocolError::TooDeep { limit: self.max_depth });
                    }
                    let is_object = open == b'{';
                    objects = (objects & !(1 << depth)) | (u128::from(is_object) << depth);
                    depth += 1;
                    self.at += 1;
                    self.space();
                    let close = if is_object { b'}' } else { b']' };
                    if self.peek() == Some(close) {
                        self.at += 1;
                        depth -= 1;
                    } else {
                        if is_object {
                            self.skip_key()?;
                        }
                        continue 'value;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return self.expected("a value"),
            }
            // After a value: skip the containers that end with it, then find the next value.
            loop {
                let Some(level) = depth.checked_sub(1) else { return Ok(()) };
                let is_object = objects & (1 << level) != 0;
                self.space();
                match (self.peek(), is_object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.skip_key()?;
                        }
                        continue 'value;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        depth = level;
                    }
                    (_, true) => return self.expected("',' or '}'"),
                    (_, false) => return self.expected("',' or ']'"),
                }
            }
        }
    }

    /// Skips a key inside a payload.
    fn skip_key(&mut self) -> Result<(), ProtocolError> {
        if self.peek() != Some(b'"') {
            return self.expected("a key in double quotes");
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.expected("':'");
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Skips a string from its first quote.
    fn string(&mut self) -> Result<(), ProtocolError> {
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                                    return self.expected("a hexadecimal digit");
                                }
                            }
                            self.at += 1;
                        }
                        _ => return self.expected("an escape"),
                    }
                }
                Some(0..0x20) => return self.expected("no control character in a string"),
                Some(_) => self.at += 1,
                None => return self.expected("'\"'"),
            }
        }
    }

    /// Skips plain characters of a string, eight bytes at a time while eight are left.
    fn skip_plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        while let Some((word, _)) = self.bytes.get(self.at..).and_then(|rest| rest.split_first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word);
            let below = |limit: u64, x: u64| x.wrapping_sub(ONES * limit) & !x & HIGHS;
            let quote = below(1, word ^ (ONES * u64::from(b'"')));
            let backslash = below(1, word ^ (ONES * u64::from(b'\\')));
            let found = quote | backslash | below(0x20, word);
            if found != 0 {
                // Only the lowest mark is exact, and only that one is needed.
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    fn digits(&mut self) -> Result<(), ProtocolError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.expected("a digit");
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ProtocolError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A leading zero stands alone. The next check refuses a digit behind it.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Result<(), ProtocolError> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return self.expected(word);
        }
        self.at += word.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn found(body: &str) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        let member = |key: &str, value: Range<usize>| {
            // Unusual text is scanned twice.
            all.retain(|(before, _)| before != key);
            all.push((key.to_string(), &body[value]));
        };
        members(body, 128, member).unwrap();
        all
    }

    #[test]
    fn members_are_found_with_their_exact_text() {
        let body = " { \"a\" : [1, {\"b\":2}] , \"\\u0063\":\"}\\\"\" ,\"d\":-0.5e+3}\n";
        let expected = [("a", "[1, {\"b\":2}]"), ("c", "\"}\\\"\""), ("d", "-0.5e+3")];
        assert_eq!(found(body), expected.map(|(key, value)| (key.to_string(), value)));
    }

    #[test]
    fn depth_is_counted_with_the_body() {
        let nested = |levels: usize| [("[").repeat(levels), "]".repeat(levels)].concat();
        let body = |levels| ["{\"a\":", &nested(levels), "}"].concat();
        assert_eq!(members(&body(127), 128, |_, _| ()), Ok(()));
        assert_eq!(members(&body(128), 128, |_, _| ()), Err(ProtocolError::TooDeep { limit: 128 }));
        assert_eq!(members(&nested(2), 1, |_, _| ()), Err(ProtocolError::TooDeep { limit: 1 }));
        assert_eq!(check(&nested(128), 128), Ok(()));
    }

    #[test]
    fn strings_are_found_to_end_at_any_alignment() {
        for padding in 0..20 {
            for middle in ["\\\"", "\\\\", "é", "\u{7f}", "\u{ff}"] {
                let text = ["\"", &"x".repeat(padding), middle, &"y".repeat(padding), "\""].concat();
                assert_eq!(check(&text, 1), Ok(()), "{text}");
                assert!(check(&[&text, "x"].concat(), 1).is_err());
            }
            let control = ["\"", &"x".repeat(padding), "\u{1f}\""].concat();
            let at = padding + 1;
            let expected = "no control character in a string";
            assert_eq!(check(&control, 1), Err(ProtocolError::InvalidJson { at, expected }));
        }
    }
}

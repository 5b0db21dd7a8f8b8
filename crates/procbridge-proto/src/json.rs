//! JSON text without a value tree (PB-BODY-*): one pass that checks the grammar and finds the members of the
//! body's object, and the two conversions between JSON strings and text that the envelope needs.
//!
//! Payloads are never decoded here. They stay the text that was sent; the pass only proves that it is JSON, so
//! that no handler and no caller meets a broken one. There is no recursion: nesting costs one bit a level.

use alloc::borrow::Cow;
use alloc::string::String;
use core::ops::Range;

use crate::error::ProtocolError;

/// Checks that `body` is one JSON object and calls `member` with each of its keys, unescaped, and the place of its
/// value in `body`.
pub(crate) fn members(
    body: &str,
    max_depth: u32,
    mut member: impl FnMut(&str, Range<usize>),
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
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, max_depth };
    scan.space();
    scan.value(0)?;
    scan.end()
}

/// What a JSON value is, in words, by its first character.
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

/// The text of a JSON string, quotes included, if `value` is one.
pub(crate) fn string(value: &str) -> Option<Text<'_>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    Some(unescape(inner))
}

/// A JSON string that was read.
pub(crate) struct Text<'a> {
    pub(crate) text: Cow<'a, str>,
    /// A surrogate without its other half was read as U+FFFD.
    pub(crate) lossy: bool,
}

/// Appends `text` as a JSON string, with its quotes.
pub(crate) fn push_string(out: &mut alloc::vec::Vec<u8>, text: &str) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend(*b"\\b"),
            0x0C => out.extend(*b"\\f"),
            b'\n' => out.extend(*b"\\n"),
            b'\r' => out.extend(*b"\\r"),
            b'\t' => out.extend(*b"\\t"),
            0..0x20 => {
                out.extend(*b"\\u00");
                out.extend(
                    [byte >> 4, byte & 15].map(|digit| HEX.get(usize::from(digit)).copied().unwrap_or(b'0')),
                );
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Reads the escapes of `inner`, the part of a checked JSON string between its quotes.
fn unescape(inner: &str) -> Text<'_> {
    let Some((plain, mut rest)) = inner.split_once('\\') else {
        return Text { text: Cow::Borrowed(inner), lossy: false };
    };
    let mut text = String::with_capacity(inner.len());
    let mut lossy = false;
    text.push_str(plain);
    loop {
        let mut chars = rest.chars();
        match chars.next() {
            Some('u') => {
                let (unit, behind) = code_unit(chars.as_str());
                let (character, behind) = match unit {
                    // A high half, which needs the low half as the next escape.
                    0xD800..0xDC00 => match behind.strip_prefix("\\u").map(code_unit) {
                        Some((low @ 0xDC00..0xE000, behind)) => {
                            (char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), behind)
                        }
                        _ => (None, behind),
                    },
                    _ => (char::from_u32(unit), behind),
                };
                lossy |= character.is_none();
                text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = behind;
            }
            Some(escaped) => {
                text.push(match escaped {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    itself => itself,
                });
                rest = chars.as_str();
            }
            None => break,
        }
        let Some((plain, behind)) = rest.split_once('\\') else {
            text.push_str(rest);
            break;
        };
        text.push_str(plain);
        rest = behind;
    }
    Text { text: Cow::Owned(text), lossy }
}

/// The four hexadecimal digits at the front of `text`, and what follows them.
fn code_unit(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or(("", ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xD800), rest)
}

/// The pass itself: a place in the text.
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

    /// A key and the colon behind it.
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
        Ok(unescape(inner).text)
    }

    /// One value of any kind that stands `outer` levels deep, everything inside it included.
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
            // A value has ended: containers that end with it, then the next one.
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

    /// A key inside a payload, which nobody needs.
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

    /// A string; the place is at its first quote.
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

    /// Skips what means nothing in a string, eight bytes at a time as long as that goes.
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
                // Only the lowest mark is exact, and it is the one that is wanted.
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
        // A zero stands alone; what follows it is judged by whoever comes next.
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
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    fn found(body: &str) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        members(body, 128, |key, value| all.push((key.to_string(), &body[value]))).unwrap();
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

    #[test]
    fn escapes_are_read() {
        let read = |json: &str| string(json).map(|read| (read.text.to_string(), read.lossy)).unwrap();
        assert_eq!(read(r#""a\"\\\/\b\f\n\r\tz""#), ("a\"\\/\u{8}\u{c}\n\r\tz".to_string(), false));
        assert_eq!(read(r#""\u00e9\uD83D\uDE04!""#), ("é😄!".to_string(), false));
        assert_eq!(read(r#""\ud83d""#), ("\u{fffd}".to_string(), true));
        assert_eq!(read(r#""\ud83d\u0041""#), ("\u{fffd}A".to_string(), true));
        assert_eq!(read(r#""\ude04\ud83d""#), ("\u{fffd}\u{fffd}".to_string(), true));
        assert_eq!(read(r#""\ud83d\ud83d\ude04""#), ("\u{fffd}😄".to_string(), true));
    }

    #[test]
    fn what_is_written_is_what_serde_json_writes() {
        let text: String = (0..0x100).filter_map(char::from_u32).chain("😄\u{2028}".chars()).collect();
        let mut out = Vec::new();
        push_string(&mut out, &text);
        let written: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(written, text);
        let mut plain = Vec::new();
        push_string(&mut plain, &text);
        assert_eq!(plain, serde_json::to_vec(&text).unwrap());
    }
}

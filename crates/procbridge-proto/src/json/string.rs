//! Reads and writes JSON strings. The envelope needs both, payloads neither.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// Returns the text of a JSON string, if `value` is one with its quotes.
pub(crate) fn read(value: &str) -> Option<Text<'_>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.as_bytes().contains(&b'\\') {
        return Some(Text { text: Cow::Borrowed(inner), lossy: false });
    }
    Some(unescape(inner))
}

/// The text of a JSON string.
pub(crate) struct Text<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Whether a surrogate without its other half was read as U+FFFD.
    pub(crate) lossy: bool,
}

/// Returns the front of `text` that fits into `most` bytes and ends with a whole character.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|&end| text.is_char_boundary(end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Appends `text` as a JSON string, with its quotes.
pub(crate) fn push(out: &mut Vec<u8>, text: &str) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend(*b"\\b"),
            0x0C => out.extend(*b"\\f"),
            b'\n' => out.extend(*b"\\n"),
            b'\r' => out.extend(*b"\\r"),
            b'\t' => out.extend(*b"\\t"),
            _ => {
                out.extend(*b"\\u00");
                out.extend(
                    [byte >> 4, byte & 15].map(|digit| HEX.get(usize::from(digit)).copied().unwrap_or(b'0')),
                );
            }
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Reads the escapes of `inner`, the part of a checked JSON string between its quotes.
pub(crate) fn unescape(inner: &str) -> Text<'_> {
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
                    // A high half needs the low half as the next escape.
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

/// Reads the four hexadecimal digits at the front of `text`. Returns the text behind them too.
fn code_unit(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or(("", ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xD800), rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn escapes_are_read() {
        let said = |json: &str| read(json).map(|read| (read.text.to_string(), read.lossy)).unwrap();
        assert_eq!(said(r#""a\"\\\/\b\f\n\r\tz""#), ("a\"\\/\u{8}\u{c}\n\r\tz".to_string(), false));
        assert_eq!(said(r#""\u00e9\uD83D\uDE04!""#), ("é😄!".to_string(), false));
        assert_eq!(said(r#""\ud83d""#), ("\u{fffd}".to_string(), true));
        assert_eq!(said(r#""\ud83d\u0041""#), ("\u{fffd}A".to_string(), true));
        assert_eq!(said(r#""\ude04\ud83d""#), ("\u{fffd}\u{fffd}".to_string(), true));
        assert_eq!(said(r#""\ud83d\ud83d\ude04""#), ("\u{fffd}😄".to_string(), true));
    }

    #[test]
    fn what_is_written_is_what_serde_json_writes() {
        let text: String = (0..0x100).filter_map(char::from_u32).chain("😄\u{2028}".chars()).collect();
        let mut out = Vec::new();
        push(&mut out, &text);
        let written: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(written, text);
        let mut plain = Vec::new();
        push(&mut plain, &text);
        assert_eq!(plain, serde_json::to_vec(&text).unwrap());
    }
}

//! Escapes unprintable characters: those that command a terminal, and those that a display leaves out.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether `c` is a control (C0, C1, DEL), ends a line, or is a character that Unicode lets a display leave out.
///
/// Those are bidirectional controls, zero-width characters, byte order marks and tags. Variation selectors 1 to 16 are
/// printable here: many emoji have one.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes `text` for a message of one line: each unprintable character becomes `\u{202e}` or the like.
pub(crate) fn escape_message(text: &str) -> String {
    escape_if(text, is_unprintable)
}

/// Escapes `text` for a line that a program reads: only controls and line ends are escaped.
pub(crate) fn escape_controls(text: &str) -> String {
    escape_if(text, |c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Escapes the characters of `text` that `is_escaped` selects, as Rust writes them.
fn escape_if(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Escapes data for a terminal as JSON does: each unprintable character but line feeds and tabs.
///
/// JSON text keeps its value, as an unprintable character stands in its strings only.
pub(crate) fn escape_for_terminal(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\t');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_escaped(c) {
            shown.push(c);
            continue;
        }
        // A character beyond 16 bits is a surrogate pair.
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_stay_on_one_line() {
        assert_eq!(escape_message("a\nb\u{1b}[31m\u{9b}é\u{2028}"), "a\\nb\\u{1b}[31m\\u{9b}é\\u{2028}");
    }

    #[test]
    fn what_a_person_does_not_see_is_shown_escaped() {
        for hidden in
            "\0\u{7f}\u{85}\u{9b}\u{9d}\u{ad}\u{61c}\u{180e}\u{200b}\u{200d}\u{200f}\u{2028}\u{202a}\u{202e}\
            \u{2060}\u{2066}\u{2069}\u{3164}\u{feff}\u{fff9}\u{e0001}\u{e0041}\u{e007f}\u{e0100}"
                .chars()
        {
            assert_eq!(escape_message(&hidden.to_string()), hidden.escape_default().to_string());
            let json = escape_for_terminal(&format!("\"{hidden}\"")).into_owned();
            assert!(json.is_ascii(), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hidden.to_string());
        }
        for plain in ["é \u{2764}\u{fe0f} 日本 עברית", "a\n\tb"] {
            assert!(matches!(escape_for_terminal(plain), Cow::Borrowed(_)), "{plain}");
        }
    }

    #[test]
    fn a_name_in_a_pipe_keeps_its_characters_and_its_line() {
        assert_eq!(escape_controls("a\u{200d}b\n\u{1b}"), "a\u{200d}b\\n\\u{1b}");
    }
}

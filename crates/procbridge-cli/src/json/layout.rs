//! Lays out JSON text without a value tree.
//!
//! Only the white space between tokens changes. Digits, the order of keys and escapes stay as they are.

/// How JSON text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line, without white space between tokens.
    Compact,
    /// Indented by two spaces a level.
    Pretty,
}

/// Lays out `text`, which must be one JSON value.
pub(crate) fn lay_out(text: &str, layout: Layout) -> String {
    let mut out = String::with_capacity(text.len());
    let mut depth = 0_usize;
    let mut rest = text.trim_start_matches(SPACE);
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or_default();
        if c == '"' {
            let (string, behind) = rest.split_at(string_length(rest));
            out.push_str(string);
            rest = behind.trim_start_matches(SPACE);
            continue;
        }
        rest = behind.trim_start_matches(SPACE);
        match c {
            _ if layout == Layout::Compact => out.push(c),
            '{' | '[' if rest.starts_with(['}', ']']) => {
                // An empty list or object stays on one line.
                out.push(c);
                out.push(if c == '{' { '}' } else { ']' });
                rest = rest.get(1..).unwrap_or_default().trim_start_matches(SPACE);
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

/// Returns the length of the JSON string at the start of `text`, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The white space of JSON. `str::trim` would take other characters too.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        " {\"b\" : [ 1.10,18446744073709551617 , { } ,[\n] ], \"a\":{\"\\u00e9 \\\" , :\":null},\"x\":\"\"} ";

    #[test]
    fn compact_is_one_line_and_changes_no_token() {
        let compact = r#"{"b":[1.10,18446744073709551617,{},[]],"a":{"\u00e9 \" , :":null},"x":""}"#;
        assert_eq!(lay_out(TEXT, Layout::Compact), compact);
        assert_eq!(lay_out(compact, Layout::Compact), compact);
        assert_eq!(lay_out(&lay_out(TEXT, Layout::Pretty), Layout::Compact), compact);
    }

    #[test]
    fn pretty_indents_by_level() {
        let pretty = "{\n  \"b\": [\n    1.10,\n    18446744073709551617,\n    {},\n    []\n  ],\n  \"a\": {\n    \
                      \"\\u00e9 \\\" , :\": null\n  },\n  \"x\": \"\"\n}";
        assert_eq!(lay_out(TEXT, Layout::Pretty), pretty);
        for alone in ["1", "\"a b\"", "null", "[]", "{}"] {
            assert_eq!(lay_out(alone, Layout::Pretty), alone);
        }
    }
}

//! Redacts tokens.

/// Returns `body` with `***` in place of the token.
///
/// The library writes the token as JSON text without spaces. A body that ends within the token ends before it here.
pub(crate) fn redact_token(body: &[u8]) -> Vec<u8> {
    let Some(start) = body.windows(KEY.len()).position(|part| part == KEY) else { return body.to_vec() };
    let (before, token) = body.split_at(start + KEY.len());
    let mut escaped = false;
    let length = token.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let rest = length.and_then(|length| token.get(length..)).unwrap_or_default();
    [before, b"***", rest].concat()
}

const KEY: &[u8] = b"\"token\":\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hidden_however_it_is_written() {
        let shown = |body: &str| String::from_utf8(redact_token(body.as_bytes())).unwrap();
        assert_eq!(
            shown(r#"{"method":"a","token":"x\"y\\","payload":1}"#),
            r#"{"method":"a","token":"***","payload":1}"#
        );
        assert_eq!(shown(r#"{"method":"a","token":"cut of"#), r#"{"method":"a","token":"***"#);
        assert_eq!(shown(r#"{"method":"a"}"#), r#"{"method":"a"}"#);
    }
}

//! The secret that a server asks for: from the command line, or from the environment, which process lists do not show.

use std::env::{self, VarError};

use crate::error::CliError;

/// The name of the variable that holds it.
pub(crate) const VARIABLE: &str = "PROCBRIDGE_TOKEN";

/// The token that is meant, if there is one; `given` is that of the command line. Set to nothing, the variable counts as
/// unset.
pub(crate) fn read(given: Option<&str>) -> Result<Option<String>, CliError> {
    match given {
        Some("") => return Err(CliError::usage("the token of --token is empty")),
        Some(token) => return Ok(Some(token.to_string())),
        None => {}
    }
    match env::var(VARIABLE) {
        Ok(token) => Ok(Some(token).filter(|token| !token.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(CliError::usage(format!("the value of {VARIABLE} is not UTF-8"))),
    }
}

/// `body` without the token in it, for a person to see. It stands there as the library writes it; what is cut off within
/// it is cut off before it.
pub(crate) fn hidden(body: &[u8]) -> Vec<u8> {
    let Some(start) = body.windows(KEY.len()).position(|part| part == KEY) else { return body.to_vec() };
    let (before, token) = body.split_at(start + KEY.len());
    let mut escaped = false;
    let length = token.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let behind = length.and_then(|length| token.get(length..)).unwrap_or_default();
    [before, b"***", behind].concat()
}

const KEY: &[u8] = b"\"token\":\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_hidden_however_it_is_written() {
        let shown = |body: &str| String::from_utf8(hidden(body.as_bytes())).unwrap();
        assert_eq!(
            shown(r#"{"method":"a","token":"x\"y\\","payload":1}"#),
            r#"{"method":"a","token":"***","payload":1}"#
        );
        assert_eq!(shown(r#"{"method":"a","token":"cut of"#), r#"{"method":"a","token":"***"#);
        assert_eq!(shown(r#"{"method":"a"}"#), r#"{"method":"a"}"#);
    }
}

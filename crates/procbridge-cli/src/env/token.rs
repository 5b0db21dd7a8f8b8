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

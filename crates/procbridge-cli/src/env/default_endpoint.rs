//! The endpoint that is meant when the command line names none.

use std::env::{self, VarError};

use procbridge::{Endpoint, Error};

use crate::error::CliError;

/// The name of the variable that holds it.
pub(crate) const VARIABLE: &str = "PROCBRIDGE_ENDPOINT";

/// The default endpoint, if there is one. Set to nothing, the variable counts as unset.
pub(crate) fn read() -> Result<Option<Endpoint>, CliError> {
    let text = match env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) | Err(VarError::NotPresent) => return Ok(None),
        Err(VarError::NotUnicode(_)) => {
            return Err(CliError::usage(format!("the value of {VARIABLE} is not UTF-8")));
        }
    };
    text.parse()
        .map(Some)
        .map_err(|error: Error| CliError::from(error).with_hint(format!("it is the value of {VARIABLE}")))
}

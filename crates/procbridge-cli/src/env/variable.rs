//! Environment variables.

use std::env::{self, VarError};

use crate::error::CliError;

/// Reads the variable `name`. An empty variable counts as unset.
pub(crate) fn read_variable(name: &str) -> Result<Option<String>, CliError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(CliError::usage(format!("the value of {name} is not UTF-8"))),
    }
}

//! The token that a server asks for. Process lists show it on the command line, but not in the environment.

use crate::env::variable::read_variable;
use crate::error::CliError;

/// The name of the variable with the default token.
pub(crate) const VARIABLE: &str = "PROCBRIDGE_TOKEN";

/// Returns the token of the command line, or the default from the environment.
pub(crate) fn read(given: Option<&str>) -> Result<Option<String>, CliError> {
    match given {
        Some("") => Err(CliError::usage("the token of --token is empty")),
        Some(token) => Ok(Some(token.to_string())),
        None => read_variable(VARIABLE),
    }
}

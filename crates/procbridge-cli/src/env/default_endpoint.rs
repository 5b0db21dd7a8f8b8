//! The endpoint of a command line that names none.

use procbridge::{Endpoint, Error};

use crate::env::variable::read_variable;
use crate::error::CliError;

/// The name of the variable with the default endpoint.
pub(crate) const VARIABLE: &str = "PROCBRIDGE_ENDPOINT";

/// Returns the default endpoint from the environment.
pub(crate) fn read() -> Result<Option<Endpoint>, CliError> {
    let with_source =
        |error: Error| CliError::from(error).with_hint(format!("it is the value of {VARIABLE}"));
    read_variable(VARIABLE)?.map(|text| text.parse().map_err(with_source)).transpose()
}

/// Returns the error for a command that needs an endpoint. `purpose` tells what for.
pub(crate) fn missing(purpose: &str) -> CliError {
    CliError::usage(format!("no endpoint{purpose}"))
        .with_hint("it is an argument such as :8000 or ./app.sock")
        .with_hint(format!("{VARIABLE} holds the default"))
}

//! Threads of this process.

use std::thread::Builder;

use crate::error::CliError;

/// Starts a thread that this process does not join.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let thread = Builder::new().name(name.to_string()).spawn(work);
    thread.map(drop).map_err(|error| CliError::system("cannot start a thread", &error))
}

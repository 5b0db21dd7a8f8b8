//! Signals of this process.

use std::io;

use signal_hook::iterator::Signals;

use crate::error::CliError;

/// Handles `signals` from now on. A signal that comes before the caller waits for it is kept.
pub(crate) fn listen(signals: &[i32]) -> Result<Signals, CliError> {
    Signals::new(signals).map_err(cannot_handle)
}

/// Returns the error for signals that cannot be handled.
pub(crate) fn cannot_handle(error: io::Error) -> CliError {
    CliError::system("cannot handle signals", &error)
}

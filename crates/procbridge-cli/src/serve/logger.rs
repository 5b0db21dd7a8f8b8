//! Writes the log of the library and of the calls to standard error.

use log::{LevelFilter, Log, Metadata, Record};
use procbridge::Call;

use crate::terminal::stderr;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let label = record.level().as_str().to_lowercase();
            stderr::report(&label, &record.args().to_string(), []);
        }
    }

    fn flush(&self) {}
}

/// Starts the logger. It shows warnings, and with `verbose` also debug messages.
pub(crate) fn start(verbose: bool) {
    // This fails only if there is another logger, which this program does not have.
    let _ = log::set_logger(&Logger);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Warn });
}

/// Logs the start of a call.
pub(crate) fn log_call(call: &Call) {
    match call.method() {
        Some(method) => log::debug!("{} calls {method:?}", call.peer()),
        None => log::debug!("{} calls no method", call.peer()),
    }
}

//! The log, as lines on standard error: what the library tells, and what is told about calls.

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

/// Shows warnings, and with `verbose` also what a healthy server need not talk about.
pub(crate) fn start(verbose: bool) {
    // It fails only when there is a logger already, and this program has no other.
    let _ = log::set_logger(&Logger);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Warn });
}

/// Reports a call that begins.
pub(crate) fn log_call(call: &Call) {
    match call.method() {
        Some(method) => log::debug!("{} calls {method:?}", call.peer()),
        None => log::debug!("{} calls no method", call.peer()),
    }
}

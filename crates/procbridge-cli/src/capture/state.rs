//! The state that the threads of a capture share.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::capture::observed::Observed;
use crate::terminal::stderr;

/// The state of a capture.
#[derive(Debug)]
pub(crate) struct CaptureState {
    /// Whether packets are shown on standard error.
    pub(crate) is_verbose: bool,
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) observed: Observed,
    /// The error of connecting to the server.
    pub(crate) connect_error: Option<io::Error>,
    connections: usize,
    open: usize,
}

impl CaptureState {
    pub(crate) fn new(is_verbose: bool) -> Self {
        Self { is_verbose, started: Instant::now(), state: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a new connection. Returns its number.
    pub(crate) fn opened(&self) -> usize {
        let mut state = self.state();
        state.connections += 1;
        state.open += 1;
        state.connections
    }

    /// Counts the end of a connection.
    pub(crate) fn closed(&self) {
        self.state().open -= 1;
        self.changed.notify_all();
    }

    /// Waits until every connection has ended, at most for `timeout`.
    pub(crate) fn wait_until_closed(&self, timeout: Duration) {
        let _ = self.changed.wait_timeout_while(self.state(), timeout, |state| state.open > 0);
    }

    /// Shows a line about the connection `number`, with `mark` as its direction.
    pub(crate) fn show(&self, number: usize, mark: &str, text: &str) {
        if self.is_verbose {
            let time = self.started.elapsed().as_secs_f64();
            let connection = if number > 1 { format!(" [{number}]") } else { String::new() };
            stderr::write_line(&format!("{mark} {time:.6}{connection} {text}"));
        }
    }
}

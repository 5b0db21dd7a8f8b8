//! What the threads share.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procbridge::Endpoint;

use crate::capture::observed::Observed;
use crate::terminal::stderr;

#[derive(Debug)]
pub(crate) struct CaptureState {
    pub(crate) server: Endpoint,
    pub(crate) connect_timeout: Option<Duration>,
    /// Whether packets are told on standard error.
    pub(crate) is_verbose: bool,
    pub(crate) began: Instant,
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) observed: Observed,
    /// Why the server cannot be reached.
    pub(crate) unreachable: Option<io::Error>,
    pub(crate) connections: usize,
    pub(crate) open: usize,
}

impl CaptureState {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn closed(&self) {
        self.state().open -= 1;
        self.changed.notify_all();
    }

    pub(crate) fn show(&self, number: usize, way: &str, what: &str) {
        if self.is_verbose {
            let time = self.began.elapsed().as_secs_f64();
            let connection = if number > 1 { format!(" [{number}]") } else { String::new() };
            stderr::write_line(&format!("{way} {time:.6}{connection} {what}"));
        }
    }
}

//! The graceful shutdown of the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procbridge::ServerHandle;

use crate::serve::child_registry::Children;
use crate::terminal::stderr;

/// The signals so far, which bring the shutdown forward. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The time of the first signal.
    first: Option<Instant>,
    signals: u32,
    last: i32,
}

impl Shutdown {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles a signal: the first begins a graceful shutdown, the second aborts calls, the third exits at once.
    pub(crate) fn advance(&self, signal: i32, handle: &ServerHandle, children: &Children, drain: Duration) {
        let mut state = self.state();
        state.signals += 1;
        state.last = signal;
        let signals = state.signals;
        state.first.get_or_insert_with(Instant::now);
        drop(state);
        match signals {
            1 => {
                handle.shutdown();
                stderr::write_line(&format!(
                    "shutting down: calls in flight may finish within {} s; another signal ends them",
                    drain.as_secs_f64()
                ));
            }
            // `run` kills the commands after their callers have their answers.
            2 => handle.abort(),
            _ => {
                children.kill_all();
                stderr::flush();
                std::process::exit(SIGNAL_EXIT_BASE + signal)
            }
        }
    }

    /// Returns the exit code, once the server has ended.
    pub(crate) fn exit(&self, drain: Duration) -> u8 {
        let State { first, signals, last } = *self.state();
        let is_late = first.is_some_and(|first| first.elapsed() >= drain);
        if is_late && signals == 1 {
            stderr::report("warn", "calls were still in flight after the time of --drain", []);
        }
        if is_late || signals > 1 { u8::try_from(SIGNAL_EXIT_BASE + last).unwrap_or(u8::MAX) } else { 0 }
    }
}

/// The exit code of a signal is this plus the signal's number, as in shells.
const SIGNAL_EXIT_BASE: i32 = 128;

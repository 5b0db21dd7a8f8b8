//! Ends the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procbridge::ServerHandle;

use crate::serve::child_registry::Children;
use crate::terminal::stderr;

/// The signals that came, and when the first did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    first: Option<Instant>,
    signals: u32,
    last: i32,
}

impl Shutdown {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first signal lets the calls in flight finish, the second does not, the third does not even clean up.
    pub(crate) fn advance(&self, signal: i32, handle: &ServerHandle, children: &Children, drain: Duration) {
        let mut state = self.state();
        state.signals += 1;
        state.last = signal;
        let signals = state.signals;
        state.first.get_or_insert_with(Instant::now);
        drop(state);
        match signals {
            1 => {
                handle.stop();
                stderr::write_line(&format!(
                    "stopping: calls in flight may finish within {} s; another signal ends them",
                    drain.as_secs_f64()
                ));
            }
            // What commands still run is ended when their callers have been answered.
            2 => handle.abort(),
            _ => {
                children.kill_all();
                stderr::flush();
                std::process::exit(SIGNAL_EXIT_BASE + signal)
            }
        }
    }

    pub(crate) fn exit(&self, drain: Duration) -> u8 {
        let State { first, signals, last } = *self.state();
        let late = first.is_some_and(|first| first.elapsed() >= drain);
        if late && signals == 1 {
            stderr::report("warn", "the time to stop was over before all calls had ended", []);
        }
        if late || signals > 1 { u8::try_from(SIGNAL_EXIT_BASE + last).unwrap_or(u8::MAX) } else { 0 }
    }
}

/// What a shell adds to the number of the signal that ended a program.
const SIGNAL_EXIT_BASE: i32 = 128;

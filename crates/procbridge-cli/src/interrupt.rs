//! Signals: what a command has begun is cancelled, and it ends with what it has.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procbridge::Client;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;
use crate::output;

/// The signals that came to this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    signal: Option<i32>,
    /// Whose calls are cancelled.
    client: Option<Client>,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM from now on. With `json` also a program that must be ended leaves its envelope.
    pub(crate) fn listen(json: bool) -> Result<Self, Failure> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT])
            .map_err(|error| Failure::system("cannot take signals", &error))?;
        let shared = interrupt.clone();
        let take = move || {
            if let Some(signal) = signals.forever().next() {
                shared.take(signal, json);
            }
        };
        thread::Builder::new()
            .name("signals".to_string())
            .spawn(take)
            .map_err(|error| Failure::system("cannot start a thread", &error))?;
        Ok(interrupt)
    }

    /// Cancels the calls of `client` when a signal comes.
    pub(crate) fn cancels(&self, client: Client) {
        self.shared.state().client = Some(client);
    }

    /// Holds no client any longer.
    pub(crate) fn release(&self) {
        let client = self.shared.state().client.take();
        drop(client);
    }

    /// How the command has to end, if a signal came.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.shared.state().signal.map(Failure::signal)
    }

    /// Waits, and ends early when a signal comes.
    pub(crate) fn sleep(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut state = self.shared.state();
        while state.signal.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, signal: i32, json: bool) {
        let mut state = self.shared.state();
        state.signal = Some(signal);
        let client = state.client.clone();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(client) = client {
            client.cancel_calls();
        }
        // The command ends by itself, unless it waits for a server that cannot be told, or for a reader of its output.
        thread::sleep(GRACE);
        let failure = Failure::signal(signal);
        output::leave(json.then(|| failure.envelope()), failure.exit());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Short for a person, and long enough to end in an orderly way: a call that waits in the system looks whether it was
/// cancelled several times a second.
const GRACE: Duration = Duration::from_millis(400);

//! Signals, and a reader of standard output that has gone: what a command has begun is cancelled, and it ends with what it
//! has.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use procbridge::{Client, Outcome};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::CliError;
use crate::terminal::stdout;

/// Why this process is to end early, if it is. Clones are the same.
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
    cause: Option<Cause>,
    /// Whose calls are cancelled.
    client: Option<Client>,
    /// Whether there ever was a client, whose calls may have run.
    has_called: bool,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Signal(i32),
    /// No process reads standard output any more.
    ReaderGone,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM from now on. With `json` also a program that must be ended leaves its envelope.
    pub(crate) fn listen(json: bool) -> Result<Self, CliError> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT])
            .map_err(|error| CliError::system("cannot take signals", &error))?;
        let shared = interrupt.clone();
        let take = move || {
            if let Some(signal) = signals.forever().next() {
                shared.take(Cause::Signal(signal), json);
            }
        };
        thread::Builder::new()
            .name("signals".to_string())
            .spawn(take)
            .map_err(|error| CliError::system("cannot start a thread", &error))?;
        Ok(interrupt)
    }

    /// Ends the command also when the reader of standard output has gone. It is for commands that write now and then, which
    /// would learn of that with the next line only.
    pub(crate) fn watch_reader(&self) -> Result<(), CliError> {
        let shared = self.clone();
        let watch = move || {
            if wait_for_hangup() {
                shared.take(Cause::ReaderGone, false);
            }
        };
        thread::Builder::new()
            .name("reader".to_string())
            .spawn(watch)
            .map(drop)
            .map_err(|error| CliError::system("cannot start a thread", &error))
    }

    /// Cancels the calls of `client` when a signal comes.
    pub(crate) fn attach(&self, client: Client) {
        let mut state = self.shared.state();
        state.client = Some(client);
        state.has_called = true;
    }

    /// Holds no client any longer.
    pub(crate) fn detach(&self) {
        let client = self.shared.state().client.take();
        drop(client);
    }

    /// How the command has to end, if a signal came or its reader has gone.
    pub(crate) fn error(&self) -> Option<CliError> {
        self.shared.state().error()
    }

    /// Waits, and ends early when a signal comes.
    pub(crate) fn sleep(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut state = self.shared.state();
        while state.cause.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, cause: Cause, json: bool) {
        let mut state = self.shared.state();
        state.cause.get_or_insert(cause);
        let client = state.client.clone();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(client) = client {
            client.cancel_calls();
        }
        // The command ends by itself, unless it waits for a server that cannot be told, or for a reader of its output.
        thread::sleep(GRACE);
        let Some(error) = self.error() else { return };
        stdout::exit(json.then(|| error.envelope()), error.exit());
    }
}

impl State {
    fn error(&self) -> Option<CliError> {
        let error = match self.cause? {
            Cause::Signal(signal) => CliError::signal(signal),
            Cause::ReaderGone => CliError::reader_gone(),
        };
        Some(error.with_outcome(if self.has_called { Outcome::Unknown } else { Outcome::NotSent }))
    }
}

/// Waits until no process reads standard output any more. Returns whether it can be waited for.
fn wait_for_hangup() -> bool {
    let stdout = io::stdout();
    loop {
        // The system tells these two unasked.
        let mut stdout = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut stdout, None) {
            Ok(_) if stdout.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)) => {
                return true;
            }
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return false,
        }
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

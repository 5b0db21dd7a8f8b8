//! Ends a command early: at a signal, or when the reader of standard output has gone.
//!
//! The calls of the command are cancelled, and the command ends with the output it has.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use procbridge::{Client, Outcome};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::CliError;
use crate::system::{self, signals};
use crate::terminal::stdout;

/// The reason why this process must end early, if it must. Clones share it.
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
    /// The client whose calls are cancelled.
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
    /// Handles SIGINT and SIGTERM from now on. With `json` a process that is forced to end writes its envelope.
    pub(crate) fn listen(json: bool) -> Result<Self, CliError> {
        let interrupt = Self::default();
        let mut signals = signals::listen(&[SIGTERM, SIGINT])?;
        let clone = interrupt.clone();
        system::thread::spawn("signals", move || {
            if let Some(signal) = signals.forever().next() {
                clone.trigger(Cause::Signal(signal), json);
            }
        })?;
        Ok(interrupt)
    }

    /// Ends the command also when the reader of standard output has gone.
    ///
    /// A command that writes now and then would otherwise notice that with its next line only.
    pub(crate) fn watch_reader(&self) -> Result<(), CliError> {
        let clone = self.clone();
        system::thread::spawn("reader", move || {
            if wait_for_hangup() {
                clone.trigger(Cause::ReaderGone, false);
            }
        })
    }

    /// Registers the client whose calls an interrupt cancels.
    pub(crate) fn attach(&self, client: Client) {
        let mut state = self.state();
        state.client = Some(client);
        state.has_called = true;
    }

    /// Drops the registered client.
    pub(crate) fn detach(&self) {
        let client = self.state().client.take();
        drop(client);
    }

    /// Returns the error with which an interrupted command ends.
    pub(crate) fn error(&self) -> Option<CliError> {
        let state = self.state();
        let error = match state.cause? {
            Cause::Signal(signal) => CliError::signal(signal),
            Cause::ReaderGone => CliError::reader_gone(),
        };
        Some(error.with_outcome(if state.has_called { Outcome::Unknown } else { Outcome::NotSent }))
    }

    /// Sleeps until `length` has passed or an interrupt comes.
    pub(crate) fn sleep(&self, length: Duration) {
        let state = self.state();
        let _ = self.shared.changed.wait_timeout_while(state, length, |state| state.cause.is_none());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the command's calls, and ends the process if the command does not end itself.
    fn trigger(&self, cause: Cause, json: bool) {
        let mut state = self.state();
        state.cause.get_or_insert(cause);
        let client = state.client.clone();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(client) = client {
            client.cancel_calls();
        }
        // The command does not end itself if it waits for a classic server or for the reader of its output.
        thread::sleep(GRACE_PERIOD);
        let Some(error) = self.error() else { return };
        stdout::exit(json.then(|| error.envelope()), error.exit());
    }
}

/// Waits until no process reads standard output. Returns false if that cannot be waited for.
fn wait_for_hangup() -> bool {
    let stdout = io::stdout();
    loop {
        // poll reports ERR and HUP even if no event is asked for.
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

/// The time in which an interrupted command may end itself. A blocked call checks for a cancel several times a second.
const GRACE_PERIOD: Duration = Duration::from_millis(400);

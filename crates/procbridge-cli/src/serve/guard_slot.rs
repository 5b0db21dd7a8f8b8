//! Holds the guard.

use std::collections::HashMap;
use std::io;
use std::process::Command;

use rustix::process::Pid;

use crate::serve::guard::Guard;
use crate::text::system_error;

/// The guard, if there is one. Its lock is the last to be taken.
#[derive(Debug, Default)]
pub(crate) struct GuardSlot {
    pub(crate) guard: Option<Guard>,
    /// What the server is called there; nothing before the first command may start.
    pub(crate) server: Option<String>,
    pub(crate) last: u64,
    pub(crate) has_warned: bool,
}

impl GuardSlot {
    /// Tells the guard that `command` begins. Returns its number.
    pub(crate) fn child_starts(&mut self, command: &mut Command, running: &HashMap<Pid, u64>) -> u64 {
        self.last += 1;
        let number = self.last;
        self.ensure(running);
        if !self.send(|guard| guard.child_starts(number)) {
            // It has gone; another takes its place.
            self.ensure(running);
            self.send(|guard| guard.child_starts(number));
        }
        if let Some(guard) = &self.guard {
            guard.mark(command, number);
        }
        number
    }

    /// Starts the guard if there is none, and tells it what runs.
    pub(crate) fn ensure(&mut self, running: &HashMap<Pid, u64>) {
        let Some(server) = self.server.as_ref().filter(|_| self.guard.is_none()) else { return };
        match Guard::start(server) {
            Ok(guard) => self.guard = Some(guard),
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                let error = system_error::describe(&error);
                log::warn!(
                    "commands will outlive this server if it is killed: cannot start their guard: {error}"
                );
            }
            Err(_) => {}
        }
        for (group, number) in running {
            self.send(|guard| guard.child_runs(*number, *group));
        }
    }

    /// Tells the guard something, if there is one. One that takes nothing is killed: it would kill by old numbers. Returns
    /// whether it is as it was.
    pub(crate) fn send(&mut self, word: impl FnOnce(&mut Guard) -> io::Result<()>) -> bool {
        let Some(mut guard) = self.guard.take() else { return true };
        if word(&mut guard).is_err() {
            guard.dismiss();
            return false;
        }
        self.guard = Some(guard);
        true
    }
}

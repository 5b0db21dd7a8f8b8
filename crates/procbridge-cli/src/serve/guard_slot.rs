//! The connection to the guard, which is restarted if it ends.

use std::collections::HashMap;
use std::io;
use std::process::Command;

use rustix::process::Pid;

use crate::serve::guard::Guard;
use crate::text::system_error;

/// The guard, if there is one. Its lock is taken after all others.
#[derive(Debug, Default)]
pub(crate) struct GuardSlot {
    pub(crate) guard: Option<Guard>,
    /// The server's name for the guard. `None` disables the guard.
    pub(crate) server: Option<String>,
    last_number: u64,
    has_warned: bool,
}

impl GuardSlot {
    /// Registers `command` with the guard before it starts. Returns its number.
    pub(crate) fn child_starts(&mut self, command: &mut Command, running: &HashMap<Pid, u64>) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.ensure(running);
        if !self.send(|guard| guard.child_starts(number)) {
            // The guard has ended. Start another.
            self.ensure(running);
            self.send(|guard| guard.child_starts(number));
        }
        if let Some(guard) = &self.guard {
            guard.mark(command, number);
        }
        number
    }

    /// Starts the guard if there is none, and registers the running commands with it.
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

    /// Sends a message to the guard, if there is one. Returns false if that fails.
    ///
    /// A guard that missed a message is killed, or it would later kill process groups of other programs.
    pub(crate) fn send(&mut self, message: impl FnOnce(&mut Guard) -> io::Result<()>) -> bool {
        let Some(mut guard) = self.guard.take() else { return true };
        if message(&mut guard).is_err() {
            guard.dismiss();
            return false;
        }
        self.guard = Some(guard);
        true
    }
}

//! The registry of running commands.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::serve::guard::Guard;
use crate::serve::guard_slot::GuardSlot;
use crate::system::random::random_id;

/// The running commands. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    /// The numbers of the commands, by process group.
    running: Arc<Mutex<HashMap<Pid, u64>>>,
    /// Whether no command may start. Hold this while a command starts and is registered, or `kill_all` misses it and
    /// `with_children` takes it for an orphan.
    pub(crate) is_shut_down: Arc<RwLock<bool>>,
    guard: Arc<Mutex<GuardSlot>>,
}

impl Children {
    /// Starts the guard, which kills the commands if this process is killed.
    pub(crate) fn start_guard(&self) {
        let mut slot = self.guard_slot();
        slot.server = Some(format!("{:016x}", random_id()));
        slot.ensure(&HashMap::new());
    }

    /// Kills all running commands, and lets no other start.
    pub(crate) fn kill_all(&self) {
        *self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner) = true;
        for group in self.lock().keys() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    /// Ends the guard. No command may be running.
    pub(crate) fn stop_guard(&self) {
        let guard = self.guard_slot().guard.take();
        drop(guard);
    }

    /// Calls `work` with the processes that this process reaps itself. No command starts meanwhile.
    pub(crate) fn with_children(&self, work: impl FnOnce(&HashSet<Pid>)) {
        let _is_shut_down = self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner);
        let running = self.lock();
        let slot = self.guard_slot();
        let guard = slot.guard.as_ref().map(Guard::id);
        work(&running.keys().copied().chain(guard).collect());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<Pid, u64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guard_slot(&self) -> MutexGuard<'_, GuardSlot> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The commands that run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::serve::guard::Guard;
use crate::serve::guard_slot::GuardSlot;

/// The commands that run now. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    /// Their numbers, by process group.
    pub(crate) running: Arc<Mutex<HashMap<Pid, u64>>>,
    /// Whether nothing starts any more. A command is entered while this is held, so that one that has just begun is not
    /// left out when all are ended, nor taken for an orphan.
    pub(crate) is_shut_down: Arc<RwLock<bool>>,
    pub(crate) guard: Arc<Mutex<GuardSlot>>,
}

impl Children {
    /// Starts what kills the commands if this process is killed.
    pub(crate) fn start_guard(&self) {
        // The standard library's only source of randomness is its hasher's seed.
        let random = RandomState::new().build_hasher().finish();
        let mut slot = self.guard_slot();
        slot.server = Some(format!("{random:016x}"));
        slot.ensure(&HashMap::new());
    }

    /// Kills everything that runs, and lets nothing start any more.
    pub(crate) fn kill_all(&self) {
        *self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner) = true;
        for group in self.lock().keys() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    /// Ends the guard. Nothing may run any more.
    pub(crate) fn stop_guard(&self) {
        let guard = self.guard_slot().guard.take();
        drop(guard);
    }

    /// Does `work` with the processes that this one has started and waits for, while it starts no other.
    pub(crate) fn with_children(&self, work: impl FnOnce(&HashSet<Pid>)) {
        let _is_over = self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner);
        let running = self.lock();
        let slot = self.guard_slot();
        let guard = slot.guard.as_ref().and_then(Guard::id);
        work(&running.keys().copied().chain(guard).collect());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<Pid, u64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guard_slot(&self) -> MutexGuard<'_, GuardSlot> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

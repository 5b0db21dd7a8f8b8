//! A door that handlers wait at until the test opens it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use procbridge::Call;

#[derive(Clone, Default)]
pub struct Door {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    callers: usize,
    is_open: bool,
}

impl Door {
    /// Waits until it is open, or the caller is gone. Returns whether it was open.
    pub fn pass(&self, call: &Call) -> bool {
        let (state, changed) = &*self.state;
        let mut now = state.lock().unwrap();
        now.callers += 1;
        changed.notify_all();
        while !now.is_open && !call.is_cancelled() {
            now = changed.wait_timeout(now, Duration::from_millis(5)).unwrap().0;
        }
        now.is_open
    }

    pub fn wait_for_callers(&self, count: usize) {
        let (state, changed) = &*self.state;
        drop(changed.wait_while(state.lock().unwrap(), |now| now.callers < count).unwrap());
    }

    pub fn open(&self) {
        self.state.0.lock().unwrap().is_open = true;
        self.state.1.notify_all();
    }
}

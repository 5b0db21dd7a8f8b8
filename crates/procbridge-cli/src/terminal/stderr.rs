//! Standard error. A thread of its own writes the lines.
//!
//! Lines wait in a bounded queue, so a slow or stopped reader blocks no thread that reports something. Lines beyond the
//! bound are dropped and counted.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::terminal::descriptor::{is_writable, write_all};
use crate::terminal::label::labelled;
use crate::terminal::line_queue::LineQueue;
use crate::text::unprintable::escape_message;

/// Queues `label: text` as a line, then a line `  label: text` for each of the `details`.
pub(crate) fn report<'a>(
    label: &str,
    text: &str,
    details: impl IntoIterator<Item = (&'static str, &'a String)>,
) {
    let mut lines = labelled(label, text);
    for (label, text) in details {
        lines.push_str("\n  ");
        lines.push_str(&labelled(label, text));
    }
    write_unescaped(lines);
}

/// Queues a line.
pub(crate) fn write_line(line: &str) {
    write_unescaped(escape_message(line));
}

/// Queues a text of this program, without its last line feed. Never waits for the reader.
pub(crate) fn write_unescaped(text: String) {
    let mut state = STDERR.state();
    if !state.queue.push(text) {
        return;
    }
    if !state.has_thread {
        // Without a thread the lines are written at the end of the program.
        let thread = thread::Builder::new().name("stderr".to_string()).spawn(|| STDERR.write());
        state.has_thread = thread.is_ok();
    }
    drop(state);
    STDERR.changed.notify_all();
}

/// Waits until all lines are written, or until standard error has taken nothing for `timeout`.
pub(crate) fn flush_within(timeout: Duration) {
    let mut state = STDERR.state();
    let last = Instant::now() + MAX_FLUSH;
    let mut deadline = Instant::now() + timeout;
    while !state.is_stuck && state.is_pending() {
        if !state.has_thread {
            while is_writable(io::stderr()) {
                let Some(line) = state.queue.pop() else { return };
                if write_all(io::stderr(), line.as_bytes()).is_err() {
                    break;
                }
            }
            state.is_stuck = state.is_pending();
            return;
        }
        state = STDERR.changed.wait_timeout(state, CHECK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        let now = Instant::now();
        // The reader keeps up if standard error is writable. Only the thread is late, on a busy machine.
        if is_writable(io::stderr()) {
            deadline = now + timeout;
        }
        state.is_stuck = state.is_pending() && now >= deadline.min(last);
    }
}

/// Waits for all lines at the end of the program, within bounds.
pub(crate) fn flush() {
    STDERR.state().is_stuck = false;
    flush_within(FLUSH_TIMEOUT);
}

/// The queue of lines, and the state of the thread that writes them.
struct Stderr {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: LineQueue,
    has_thread: bool,
    is_writing: bool,
    /// Whether the last flush timed out and the thread has made no progress since.
    is_stuck: bool,
}

impl State {
    fn is_pending(&self) -> bool {
        !self.queue.is_empty() || self.is_writing
    }
}

impl Stderr {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines, each in one write, so that lines of several programs do not mix.
    fn write(&self) {
        let mut state = self.state();
        loop {
            let Some(line) = state.queue.pop() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_writing = true;
            drop(state);
            // A failure to write to standard error cannot be reported.
            let _ = write_all(io::stderr(), line.as_bytes());
            state = self.state();
            state.is_writing = false;
            state.is_stuck = false;
            self.changed.notify_all();
        }
    }
}

static STDERR: Stderr = Stderr {
    state: Mutex::new(State {
        queue: LineQueue::new(),
        has_thread: false,
        is_writing: false,
        is_stuck: false,
    }),
    changed: Condvar::new(),
};

/// The wait at the end of the program for a reader that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// The wait for a reader that takes a little now and then.
const MAX_FLUSH: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

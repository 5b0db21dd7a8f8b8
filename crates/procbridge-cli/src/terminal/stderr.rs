//! Standard error. Lines wait in a bounded queue for a thread of their own: a reader that is slow, or has stopped, blocks
//! no thread that has something to say. Lines for which the queue has no room are dropped and counted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::terminal::line_queue::LineQueue;
use crate::terminal::{descriptor, label};
use crate::text::unprintable::escape_message;

/// Lines that wait to be written, and the thread that writes them.
struct StderrQueue {
    state: Mutex<LineQueue>,
    changed: Condvar,
}

static QUEUE: StderrQueue = StderrQueue {
    state: Mutex::new(LineQueue {
        lines: VecDeque::new(),
        bytes: 0,
        dropped: 0,
        has_thread: false,
        is_writing: false,
        is_stuck: false,
    }),
    changed: Condvar::new(),
};

/// Says something on standard error: `label: text` on one line, then `  label: text` lines that belong to it.
pub(crate) fn report<'a>(label: &str, text: &str, details: impl IntoIterator<Item = (&'a str, &'a String)>) {
    let mut lines = label::labelled(label, text);
    for (label, text) in details {
        lines.push_str("\n  ");
        lines.push_str(&label::labelled(label, text));
    }
    enqueue(lines);
}

/// Says a line on standard error.
pub(crate) fn write_line(line: &str) {
    enqueue(escape_message(line));
}

/// Queues a line, which has no line feed at its end. Never waits for the reader.
pub(crate) fn enqueue(line: String) {
    let mut state = QUEUE.state();
    if !state.push(line) {
        return;
    }
    if !state.has_thread {
        // Without a thread the lines are written at the end.
        let thread = thread::Builder::new().name("stderr".to_string()).spawn(|| QUEUE.write());
        state.has_thread = thread.is_ok();
    }
    drop(state);
    QUEUE.changed.notify_all();
}

/// Waits until all lines are written, or until standard error has taken nothing for `timeout`.
pub(crate) fn flush_within(timeout: Duration) {
    let mut state = QUEUE.state();
    let last = Instant::now() + MAX_FLUSH;
    let mut end = Instant::now() + timeout;
    while !state.is_stuck && state.is_pending() {
        if !state.has_thread {
            while is_writable() && state.write_next() {}
            state.is_stuck = state.is_pending();
            return;
        }
        state = QUEUE.changed.wait_timeout(state, CHECK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        let now = Instant::now();
        // A reader that is there waits for the thread, which a busy machine may hold up.
        if is_writable() {
            end = now + timeout;
        }
        state.is_stuck = state.is_pending() && now >= end.min(last);
    }
}

/// Waits for the lines before the program ends.
pub(crate) fn flush() {
    QUEUE.state().is_stuck = false;
    flush_within(FLUSH_TIMEOUT);
}

impl StderrQueue {
    fn state(&self) -> MutexGuard<'_, LineQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines, each in one write, so that those of several programs do not mix.
    fn write(&self) {
        let mut state = self.state();
        loop {
            let Some(line) = state.pop() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_writing = true;
            drop(state);
            // If nothing can be written there, the error cannot be told.
            let _ = descriptor::write_all(io::stderr(), line.as_bytes());
            state = self.state();
            state.is_writing = false;
            state.is_stuck = false;
            self.changed.notify_all();
        }
    }
}

/// Whether standard error takes a line at once.
fn is_writable() -> bool {
    let stderr = io::stderr();
    let mut stderr = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut stderr, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The wait at the end of the program for a reader that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The wait for a reader that takes a little now and then.
const MAX_FLUSH: Duration = Duration::from_secs(5);

const CHECK_INTERVAL: Duration = Duration::from_millis(10);

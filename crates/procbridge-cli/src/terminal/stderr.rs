//! Standard error. Lines wait in a bounded queue for a thread of their own: a reader that is slow, or has stopped, blocks
//! no thread that has something to say. Lines for which the queue has no room are dropped and counted.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::terminal::stdout;

/// Lines that wait to be written, and the thread that writes them.
struct StderrQueue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that were dropped since the last line that was queued.
    dropped: u64,
    has_thread: bool,
    is_writing: bool,
    /// Whether the last wait for the queue ended without any progress of the thread.
    is_stuck: bool,
}

static QUEUE: StderrQueue = StderrQueue {
    state: Mutex::new(State {
        lines: VecDeque::new(),
        bytes: 0,
        dropped: 0,
        has_thread: false,
        is_writing: false,
        is_stuck: false,
    }),
    changed: Condvar::new(),
};

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
    fn state(&self) -> MutexGuard<'_, State> {
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
            let _ = stdout::write_all(io::stderr(), line.as_bytes());
            state = self.state();
            state.is_writing = false;
            state.is_stuck = false;
            self.changed.notify_all();
        }
    }
}

impl State {
    /// Queues a line, or drops it. After a loss the queue must be half empty first, so that losses are told in few lines.
    fn push(&mut self, mut line: String) -> bool {
        line.push('\n');
        let (most_lines, most_bytes) =
            if self.dropped > 0 { (MAX_LINES / 2, MAX_BYTES / 2) } else { (MAX_LINES, MAX_BYTES) };
        // A line alone may be of any length, as the data of an error is.
        let is_full = self.lines.len() >= most_lines || self.bytes + line.len() > most_bytes;
        if is_full && !self.lines.is_empty() {
            self.dropped += 1;
            return false;
        }
        let dropped_line = self.take_dropped();
        for line in dropped_line.into_iter().chain([line]) {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
        true
    }

    fn pop(&mut self) -> Option<String> {
        let line = self.lines.pop_front();
        self.bytes -= line.as_ref().map_or(0, String::len);
        line.or_else(|| self.take_dropped())
    }

    /// Returns the line that tells how many were dropped.
    fn take_dropped(&mut self) -> Option<String> {
        let (count, word) = match std::mem::take(&mut self.dropped) {
            0 => return None,
            1 => (1, "line is"),
            count => (count, "lines are"),
        };
        Some(
            stdout::complaint("warn", &format!("{count} {word} left out here: standard error took no more"))
                + "\n",
        )
    }

    fn is_pending(&self) -> bool {
        !self.lines.is_empty() || self.is_writing || self.dropped > 0
    }

    /// Writes the next line, which must not wait.
    fn write_next(&mut self) -> bool {
        let Some(line) = self.pop() else { return false };
        stdout::write_all(io::stderr(), line.as_bytes()).is_ok()
    }
}

/// Whether standard error takes a line at once.
fn is_writable() -> bool {
    let stderr = io::stderr();
    let mut stderr = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut stderr, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Bounds of the queue. A line of the log has some 200 bytes, a dumped packet 250.
const MAX_LINES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;
/// The wait at the end of the program for a reader that takes nothing.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// The wait for a reader that takes a little now and then.
const MAX_FLUSH: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> State {
        State {
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            has_thread: true,
            is_writing: false,
            is_stuck: false,
        }
    }

    #[test]
    fn lines_beyond_the_bounds_are_counted_and_the_count_is_told() {
        for line in ["x".to_string(), "x".repeat(MAX_BYTES / 8)] {
            let mut state = empty();
            let mut queued = 0;
            while state.push(line.clone()) {
                queued += 1;
            }
            assert!(state.lines.len() <= MAX_LINES && state.bytes <= MAX_BYTES);
            assert!(!state.push(line.clone()));
            // One free place is no reason to tell it.
            state.pop();
            assert!(!state.push("y".to_string()));
            for _ in 1..queued {
                assert_eq!(state.pop(), Some(line.clone() + "\n"));
            }
            let told = state.pop().unwrap();
            assert!(told.ends_with("3 lines are left out here: standard error took no more\n"), "{told}");
            assert_eq!((state.pop(), state.bytes), (None, 0));
        }
    }

    #[test]
    fn a_loss_stands_before_the_lines_behind_it() {
        let mut state = empty();
        state.dropped = 1;
        assert!(state.push("after".to_string()));
        let told = state.pop().unwrap();
        assert!(told.ends_with("1 line is left out here: standard error took no more\n"), "{told}");
        assert_eq!(state.pop().as_deref(), Some("after\n"));
    }
}

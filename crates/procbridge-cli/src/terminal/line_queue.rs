//! Queues lines within bounds.

use std::collections::VecDeque;
use std::io;

use crate::terminal::{descriptor, label};

pub(crate) struct LineQueue {
    pub(crate) lines: VecDeque<String>,
    pub(crate) bytes: usize,
    /// Lines that were dropped since the last line that was queued.
    pub(crate) dropped: u64,
    pub(crate) has_thread: bool,
    pub(crate) is_writing: bool,
    /// Whether the last wait for the queue ended without any progress of the thread.
    pub(crate) is_stuck: bool,
}

impl LineQueue {
    /// Queues a line, or drops it. After a loss the queue must be half empty first, so that losses are told in few lines.
    pub(crate) fn push(&mut self, mut line: String) -> bool {
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

    pub(crate) fn pop(&mut self) -> Option<String> {
        let line = self.lines.pop_front();
        self.bytes -= line.as_ref().map_or(0, String::len);
        line.or_else(|| self.take_dropped())
    }

    /// Returns the line that tells how many were dropped.
    pub(crate) fn take_dropped(&mut self) -> Option<String> {
        let (count, word) = match std::mem::take(&mut self.dropped) {
            0 => return None,
            1 => (1, "line is"),
            count => (count, "lines are"),
        };
        Some(
            label::labelled("warn", &format!("{count} {word} left out here: standard error took no more"))
                + "\n",
        )
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.lines.is_empty() || self.is_writing || self.dropped > 0
    }

    /// Writes the next line, which must not wait.
    pub(crate) fn write_next(&mut self) -> bool {
        let Some(line) = self.pop() else { return false };
        descriptor::write_all(io::stderr(), line.as_bytes()).is_ok()
    }
}

/// Bounds of the queue. A line of the log has some 200 bytes, a dumped packet 250.
const MAX_LINES: usize = 4096;

const MAX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> LineQueue {
        LineQueue {
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

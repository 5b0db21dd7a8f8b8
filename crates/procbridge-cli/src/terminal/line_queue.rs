//! A bounded queue of lines that counts the lines it drops.

use std::collections::VecDeque;

use crate::terminal::label::labelled;

/// Lines in their order, bounded in number and in bytes.
pub(crate) struct LineQueue {
    lines: VecDeque<String>,
    bytes: usize,
    /// The number of lines dropped since the last line that was queued.
    dropped: u64,
}

impl LineQueue {
    pub(crate) const fn new() -> Self {
        Self { lines: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    /// Queues or drops a line. Returns whether it was queued.
    ///
    /// After a loss the queue must be half empty before it takes lines again, so that few lines report losses.
    pub(crate) fn push(&mut self, mut line: String) -> bool {
        line.push('\n');
        let divisor = if self.dropped > 0 { 2 } else { 1 };
        let is_full =
            self.lines.len() >= MAX_LINES / divisor || self.bytes + line.len() > MAX_BYTES / divisor;
        // A single line may have any length, as the data of an error may.
        if is_full && !self.lines.is_empty() {
            self.dropped += 1;
            return false;
        }
        for line in self.take_dropped().into_iter().chain([line]) {
            self.bytes += line.len();
            self.lines.push_back(line);
        }
        true
    }

    /// Takes the next line, or the line that reports a loss.
    pub(crate) fn pop(&mut self) -> Option<String> {
        let line = self.lines.pop_front();
        self.bytes -= line.as_ref().map_or(0, String::len);
        line.or_else(|| self.take_dropped())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Returns the line that reports how many lines were dropped.
    fn take_dropped(&mut self) -> Option<String> {
        let (count, word) = match std::mem::take(&mut self.dropped) {
            0 => return None,
            1 => (1, "line is"),
            count => (count, "lines are"),
        };
        let text = format!("{count} {word} left out here: standard error took no more");
        Some(labelled("warn", &text) + "\n")
    }
}

/// The bounds of the queue. A line of the log has about 200 bytes, a captured packet 250.
const MAX_LINES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bounds_are_counted_and_the_count_is_told() {
        for line in ["x".to_string(), "x".repeat(MAX_BYTES / 8)] {
            let mut state = LineQueue::new();
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
        let mut state = LineQueue::new();
        state.dropped = 1;
        assert!(state.push("after".to_string()));
        let told = state.pop().unwrap();
        assert!(told.ends_with("1 line is left out here: standard error took no more\n"), "{told}");
        assert_eq!(state.pop().as_deref(), Some("after\n"));
    }
}

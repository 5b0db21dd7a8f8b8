//! What a server tells the program's log: a line a matter, at most ten a second of each, and nothing that a peer
//! could forge or flood it with.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::telemetry::log_thread::LOG_THREAD;

/// The matters that a server reports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogClass {
    /// Accepting a connection failed.
    Accept,
    /// A connection was refused: too many, or a peer that may not.
    Refused,
    /// A peer broke the protocol.
    Protocol,
    /// A handler ran past its time limit.
    Timeout,
    /// An answer could not be delivered.
    Write,
}

/// Limits the lines of each matter.
#[derive(Debug)]
pub(crate) struct Log {
    windows: Mutex<[Option<(Instant, u32)>; 5]>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { windows: Mutex::new([None; 5]) }
    }

    /// Queues the line that `text` makes, unless this matter had ten in the running second. The text is escaped and
    /// cut, as parts of it may come from a peer. It waits for nothing.
    pub(crate) fn write(&self, class: LogClass, text: impl FnOnce() -> String) {
        let level = match class {
            LogClass::Protocol | LogClass::Write => log::Level::Debug,
            LogClass::Accept | LogClass::Refused | LogClass::Timeout => log::Level::Warn,
        };
        // The log itself is asked by no thread but its own: it may be slow to say whether it wants a line.
        let is_wanted = level <= log::STATIC_MAX_LEVEL && level <= log::max_level();
        if is_wanted && self.is_allowed(class, Instant::now()) {
            LOG_THREAD.push(level, escaped(&text()));
        }
    }

    fn is_allowed(&self, class: LogClass, now: Instant) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.get_mut(class as usize) else { return false };
        let (start, lines) = window.get_or_insert((now, 0));
        if now.duration_since(*start) >= Duration::from_secs(1) {
            (*start, *lines) = (now, 0);
        }
        *lines += 1;
        *lines <= LINES_A_SECOND
    }
}

/// Text that may come from a peer, made safe to show: escaped, and at most [`MAX_PEER_TEXT`] bytes of it.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let keep = c == '"' || c == '\'' || c == '\\';
        let escaped = if keep { c.to_string() } else { c.escape_debug().to_string() };
        if shown.len() + escaped.len() > MAX_PEER_TEXT {
            shown.push_str("...");
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

const LINES_A_SECOND: u32 = 10;
const MAX_PEER_TEXT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_of_each_matter() {
        let log = Log::new();
        let start = Instant::now();
        let lines = |class, at| (0..50).filter(|_| log.is_allowed(class, at)).count();
        assert_eq!(lines(LogClass::Accept, start), 10);
        assert_eq!(lines(LogClass::Protocol, start), 10);
        assert_eq!(lines(LogClass::Accept, start + Duration::from_millis(999)), 0);
        assert_eq!(lines(LogClass::Accept, start + Duration::from_secs(1)), 10);
    }

    #[test]
    fn a_peers_text_is_escaped_and_cut() {
        assert_eq!(escaped("a\n\u{1b}[31m\"é"), "a\\n\\u{1b}[31m\"é");
        assert_eq!(escaped(&"x".repeat(500)).len(), MAX_PEER_TEXT + 3);
    }
}

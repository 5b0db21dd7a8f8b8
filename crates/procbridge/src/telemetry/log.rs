//! The log of a server: rate-limited lines by log class, and nothing in them that a peer could forge.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::telemetry::log_thread::LOG_THREAD;

/// The classes of log lines. Each is limited to ten lines a second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogClass {
    /// Accepting a connection failed.
    Accept,
    /// A connection was refused: at a limit, or because the peer may not connect.
    Refused,
    /// A peer broke the protocol.
    Protocol,
    /// A handler ran past its deadline.
    Timeout,
    /// An answer could not be delivered.
    Write,
}

/// A rate-limited log.
#[derive(Debug)]
pub(crate) struct Log {
    windows: Mutex<[Option<(Instant, u32)>; 5]>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { windows: Mutex::new([None; 5]) }
    }

    /// Queues the line that `text` makes, unless its class had ten in the current second. The text is escaped and cut,
    /// as parts of it may come from a peer. Never blocks.
    pub(crate) fn write(&self, class: LogClass, text: impl FnOnce() -> String) {
        let level = match class {
            LogClass::Protocol | LogClass::Write => log::Level::Debug,
            LogClass::Accept | LogClass::Refused | LogClass::Timeout => log::Level::Warn,
        };
        // Only the log thread calls the program's log: even asking whether it wants a line may block.
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

/// Escapes text that may come from a peer, and cuts it to [`MAX_PEER_TEXT`] bytes.
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
    fn ten_lines_a_second_of_each_class() {
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

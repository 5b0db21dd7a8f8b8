//! The log thread of a process: empties a bounded queue of lines into the program's log. A log that is slow or blocks
//! costs lines, and no other thread's time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

/// The queue for the program's log.
pub(crate) static LOG_THREAD: LogThread =
    LogThread::new(|level, line| log::log!(target: "procbridge", level, "{line}"));

/// A queue of log lines, and the thread that empties it.
pub(crate) struct LogThread {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The log. Only the thread of this queue calls it.
    write: fn(Level, &str),
}

struct Queue {
    lines: VecDeque<(Level, String)>,
    /// Lines lost to a full queue that the log has not reported yet.
    lost: u64,
    queued: u64,
    written: u64,
    /// The process whose thread empties the queue. A fork does not copy the thread.
    owner: Option<u32>,
}

impl LogThread {
    const fn new(write: fn(Level, &str)) -> Self {
        let queue = Queue { lines: VecDeque::new(), lost: 0, queued: 0, written: 0, owner: None };
        Self { queue: Mutex::new(queue), changed: Condvar::new(), write }
    }

    /// Queues a line. A full queue drops it, and counts it.
    pub(crate) fn push(&'static self, level: Level, line: String) {
        let mut queue = self.queue();
        if queue.lines.len() >= MAX_QUEUED_LINES {
            queue.lost += 1;
            return;
        }
        queue.lines.push_back((level, line));
        queue.queued += 1;
        let own = Some(process::id());
        if queue.owner != own {
            let writer = thread::Builder::new().name("procbridge-log".into()).spawn(|| self.run());
            // Without a thread the lines stay queued until the next one starts it.
            queue.owner = writer.ok().and(own);
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until the log has written the lines that are queued now, at most for `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = self.queue();
        let target = queue.queued;
        while !queue.has_written(target) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the number of the last line that is queued now.
    #[cfg(feature = "tokio")]
    pub(crate) fn last(&self) -> u64 {
        self.queue().queued
    }

    /// Whether the log has written the line of this number.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_written(&self, line: u64) -> bool {
        self.queue().has_written(line)
    }

    /// Passes lines to the log, until there have been none for a while.
    fn run(&self) {
        while let Some((level, line, lost)) = self.next() {
            // A log that panics loses its line, not this thread.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                if lost > 0 {
                    (self.write)(Level::Warn, &format!("{lost} log lines were lost: the log is too slow"));
                }
                (self.write)(level, &line);
            }));
            self.queue().written += 1;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<(Level, String, u64)> {
        let is_empty = |queue: &mut Queue| queue.lines.is_empty();
        let waited = self.changed.wait_timeout_while(self.queue(), IDLE_THREAD_TIMEOUT, is_empty);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        let Some((level, line)) = queue.lines.pop_front() else {
            // The next line starts a thread.
            queue.owner = None;
            queue.lines = VecDeque::new();
            return None;
        };
        Some((level, line, std::mem::take(&mut queue.lost)))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_written(&self, line: u64) -> bool {
        // Without a thread nothing more is written.
        self.written >= line || self.owner.is_none()
    }
}

/// How long a server that has ended waits for the log to write its last lines.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);
/// Lines queued for a slow log: some seconds of all classes.
const MAX_QUEUED_LINES: usize = 256;
/// How long the thread stays without a line.
const IDLE_THREAD_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn lines_keep_their_order_and_lost_ones_are_counted() {
        static GATE: Mutex<()> = Mutex::new(());
        static TAKEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        static ENTERED: Mutex<Option<mpsc::Sender<()>>> = Mutex::new(None);
        static LOG: LogThread = LogThread::new(|_, line| {
            if let Some(entered) = ENTERED.lock().unwrap().take() {
                entered.send(()).unwrap();
            }
            let _open = GATE.lock().unwrap();
            TAKEN.lock().unwrap().push(line.to_string());
        });
        let (entered, hears) = mpsc::channel();
        *ENTERED.lock().unwrap() = Some(entered);
        let shut = GATE.lock().unwrap();
        LOG.push(Level::Warn, "first".into());
        hears.recv_timeout(Duration::from_secs(20)).unwrap();
        // The log blocks on the first line; no caller waits for it.
        for n in 0..MAX_QUEUED_LINES + 7 {
            LOG.push(Level::Warn, n.to_string());
        }
        LOG.flush(Duration::from_millis(1));
        drop(shut);
        LOG.flush(Duration::from_secs(20));
        let mut expected = vec!["first".to_string(), "7 log lines were lost: the log is too slow".into()];
        expected.extend((0..MAX_QUEUED_LINES).map(|n| n.to_string()));
        assert_eq!(*TAKEN.lock().unwrap(), expected);
    }

    #[test]
    fn a_log_that_panics_loses_its_line_only() {
        static TAKEN: Mutex<u32> = Mutex::new(0);
        static LOG: LogThread = LogThread::new(|_, line| {
            assert_ne!(line, "bad", "on purpose");
            *TAKEN.lock().unwrap() += 1;
        });
        for line in ["good", "bad", "good"] {
            LOG.push(Level::Warn, line.into());
        }
        LOG.flush(Duration::from_secs(20));
        assert_eq!(*TAKEN.lock().unwrap(), 2);
    }
}

//! Threads for work that comes now and then: an idle thread stays for a while.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Starts a thread. Boxing the work compiles this once for all kinds of work.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::Builder::new().name(name.to_string()).spawn(work)
}

/// A pool of threads. It starts as many threads as it has work at a time; its users bound the work. Dropping it ends
/// the idle threads.
#[derive(Debug, Default)]
pub(super) struct ThreadPool {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Box<dyn FnOnce() + Send>>,
    idle: usize,
    /// How many threads the operating system failed to start.
    unstarted: usize,
    is_closed: bool,
}

impl ThreadPool {
    /// Runs `work` on a thread.
    ///
    /// # Errors
    ///
    /// The operating system cannot start a thread. The next free thread does the work, or one that
    /// [`ensure_spare`](Self::ensure_spare) starts.
    pub(super) fn run(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut queue = self.inner.queue();
        queue.work.push_back(Box::new(work));
        let is_enough = queue.work.len() <= queue.idle;
        drop(queue);
        if is_enough {
            self.inner.more.notify_one();
            return Ok(());
        }
        self.start(name).inspect_err(|_| self.inner.queue().unstarted += 1)
    }

    /// Starts the threads that could not be started before, as far as work is queued. Returns whether some still cannot
    /// be started.
    pub(super) fn ensure_spare(&self, name: &str) -> bool {
        loop {
            let mut queue = self.inner.queue();
            queue.unstarted = queue.unstarted.min(queue.work.len());
            if queue.unstarted == 0 {
                return false;
            }
            drop(queue);
            if self.start(name).is_err() {
                return true;
            }
            let mut queue = self.inner.queue();
            queue.unstarted = queue.unstarted.saturating_sub(1);
        }
    }

    fn start(&self, name: &str) -> io::Result<()> {
        let inner = self.inner.clone();
        spawn(name, move || inner.work()).map(drop)
    }

    /// Ends the idle threads.
    pub(super) fn close(&self) {
        self.inner.queue().is_closed = true;
        self.inner.more.notify_all();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(work) = self.next() {
            work();
        }
    }

    fn next(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut queue = self.queue();
        if let Some(work) = queue.work.pop_front() {
            return Some(work);
        }
        if queue.is_closed {
            return None;
        }
        queue.idle += 1;
        let is_quiet = |queue: &mut Queue| queue.work.is_empty() && !queue.is_closed;
        let (mut queue, _) = self
            .more
            .wait_timeout_while(queue, IDLE_TIMEOUT, is_quiet)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
        queue.work.pop_front()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("work", &self.work.len()).field("idle", &self.idle).finish()
    }
}

/// How long an idle thread stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// The delay before a failed thread start is retried.
pub(super) const SPAWN_RETRY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_for_which_there_was_no_thread_is_done_by_one_that_makes_up_for_it() {
        let (done, receiver) = mpsc::channel();
        let pool = ThreadPool::default();
        let mut queue = pool.inner.queue();
        for number in 0..2 {
            let done = done.clone();
            queue.work.push_back(Box::new(move || done.send(number).unwrap()));
            queue.unstarted += 1;
        }
        drop(queue);
        assert!(!pool.ensure_spare("made-up"));
        let limit = Duration::from_secs(5);
        let mut numbers = [0, 0].map(|_: i32| receiver.recv_timeout(limit).unwrap());
        numbers.sort_unstable();
        assert_eq!((numbers, pool.inner.queue().unstarted), ([0, 1], 0));
    }
}

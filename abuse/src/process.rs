//! The figures that the system has of a process.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The resources of a process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) resident_kib: usize,
    /// The most since [`forget_peak`].
    pub(crate) peak_kib: usize,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) cpu: Duration,
}

impl Figures {
    /// Reads them. Fails when the process has ended.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(process.join("status"))?;
        let stat = fs::read_to_string(process.join("stat"))?;
        Ok(Self {
            resident_kib: field(&status, "VmRSS:"),
            peak_kib: field(&status, "VmHWM:"),
            descriptors: fs::read_dir(process.join("fd"))?.count(),
            threads: field(&status, "Threads:"),
            cpu: processor_time(&stat),
        })
    }
}

/// Lets the peak of resident memory begin anew.
pub(crate) fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn field(status: &str, name: &str) -> usize {
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    value.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

/// Returns the time of all threads, ended ones included: fields 14 and 15, in hundredths of a second.
fn processor_time(stat: &str) -> Duration {
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Looks again and again at what has no peak of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Arc<Peaks>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Peaks {
    stopped: AtomicBool,
    descriptors: AtomicUsize,
    threads: AtomicUsize,
}

impl Watch {
    pub(crate) fn begin(pid: u32) -> Self {
        let inner = Arc::new(Peaks::default());
        let peaks = inner.clone();
        let thread = thread::spawn(move || {
            while !peaks.stopped.load(Ordering::Relaxed) {
                if let Ok(now) = Figures::of(pid) {
                    peaks.descriptors.fetch_max(now.descriptors, Ordering::Relaxed);
                    peaks.threads.fetch_max(now.threads, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self { inner, thread: Some(thread) }
    }

    /// Returns the most descriptors and threads that were seen.
    pub(crate) fn end(mut self) -> (usize, usize) {
        self.stop();
        (self.inner.descriptors.load(Ordering::Relaxed), self.inner.threads.load(Ordering::Relaxed))
    }

    fn stop(&mut self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\tx\nVmHWM:\t    1280 kB\nVmRSS:\t 640 kB\nThreads:\t3\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "Threads:"), field(status, "No:")), (640, 3, 0));
    }

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 1 0 9 0 0";
        assert_eq!(processor_time(stat), Duration::from_millis(420));
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::of(std::process::id()).unwrap();
        assert!(figures.resident_kib > 0 && figures.threads > 0 && figures.descriptors > 2);
    }
}

//! Percentiles, and what a window of time holds.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Returns the value that so many of a hundred values do not pass, by nearest rank. Zero where there are none.
pub(crate) fn percentile(values: &mut [Duration], hundredths: usize) -> Duration {
    values.sort_unstable();
    let rank = (values.len() * hundredths).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Returns how much of `before` is left, as a ratio. Nothing to lose is all kept.
pub(crate) fn ratio(during: f64, before: f64) -> f64 {
    if before > 0.0 { during / before } else { 1.0 }
}

/// A span of a run, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Window {
    pub(crate) fn contains(&self, time: Duration) -> bool {
        self.from <= time && time < self.to
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.to.saturating_sub(self.from).as_secs_f64()
    }
}

/// A thread that sleeps again and again, and notes how much later than asked it wakes.
pub(crate) struct Oversleep {
    thread: JoinHandle<Vec<Duration>>,
    end: mpsc::Sender<()>,
}

impl Oversleep {
    pub(crate) fn begin() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let (mut found, nap) = (Vec::new(), Duration::from_millis(2));
            loop {
                let began = Instant::now();
                if ended.recv_timeout(nap) != Err(RecvTimeoutError::Timeout) {
                    return found;
                }
                found.push(began.elapsed().saturating_sub(nap));
            }
        });
        Self { thread, end }
    }

    /// Returns the 99th percentile of what the thread overslept.
    pub(crate) fn end(self) -> Duration {
        drop(self.end);
        percentile(&mut self.thread.join().unwrap_or_default(), 99)
    }
}

/// Writes milliseconds with as many digits as matter.
pub(crate) fn milliseconds(time: Duration) -> String {
    let value = time.as_secs_f64() * 1e3;
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut hundred = times(&(1..=100).rev().collect::<Vec<_>>());
        assert_eq!(percentile(&mut hundred, 50), Duration::from_millis(50));
        assert_eq!(percentile(&mut hundred, 99), Duration::from_millis(99));
        assert_eq!(percentile(&mut times(&[7]), 99), Duration::from_millis(7));
        assert_eq!(percentile(&mut times(&[3, 9, 1]), 99), Duration::from_millis(9));
        assert_eq!(percentile(&mut [], 99), Duration::ZERO);
    }

    #[test]
    fn a_ratio_of_nothing_loses_nothing() {
        assert_eq!(ratio(40.0, 80.0), 0.5);
        assert_eq!(ratio(0.0, 0.0), 1.0);
    }

    #[test]
    fn a_window_ends_before_its_end() {
        let window = Window { from: Duration::from_secs(1), to: Duration::from_secs(3) };
        assert!(window.contains(Duration::from_secs(1)));
        assert!(!window.contains(Duration::from_secs(3)));
        assert_eq!(window.seconds(), 2.0);
    }

    #[test]
    fn short_times_have_a_digit_more() {
        assert_eq!(milliseconds(Duration::from_micros(1250)), "1.2 ms");
        assert_eq!(milliseconds(Duration::from_millis(1250)), "1250 ms");
    }
}

//! How long calls took, in the few numbers that tell it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::CliError;
use crate::json::object::Object;
use crate::text::duration::format_duration;

/// The times of calls that were made one after the other.
#[derive(Debug)]
pub(crate) struct Latency {
    /// Nanoseconds.
    times: Histogram<u64>,
    longest: u64,
    started: Instant,
}

impl Latency {
    /// No call yet; the time of all of them begins.
    pub(crate) fn start() -> Result<Self, CliError> {
        let times = Histogram::new(SIGNIFICANT_DIGITS)
            .map_err(|error| CliError::system("cannot measure", &std::io::Error::other(error)))?;
        Ok(Self { times, longest: 0, started: Instant::now() })
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // It grows with what it is given.
        let _ = self.times.record(nanos.max(1));
        self.longest = self.longest.max(nanos);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.times.len()
    }

    /// Of `q` of all calls, none took longer than this.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        // The histogram tells the upper end of a range of times; none was longer than the longest.
        Duration::from_nanos(self.times.value_at_quantile(q).min(self.longest))
    }

    /// Calls a second, all times between them included.
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "nobody counts that many calls to the last")]
        let calls = self.calls() as f64;
        calls / seconds.max(f64::EPSILON)
    }

    /// `p50 0.083 ms, p90 0.1 ms, p99 0.2 ms, max 1 ms`
    pub(crate) fn text(&self) -> String {
        let times = QUANTILES.map(|(name, q)| format!("{name} {}", format_duration(self.quantile(q))));
        times.join(", ")
    }

    /// Adds the same to an object, in microseconds.
    pub(crate) fn members(&self, object: Object) -> Object {
        QUANTILES.iter().fold(object, |object, (name, q)| {
            let micros = self.quantile(*q).as_secs_f64() * 1e6;
            object.member(&format!("{name}_us"), &format!("{micros:.1}"))
        })
    }
}

/// The numbers that are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// An error of at most one in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut latency = Latency::start().unwrap();
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        for (q, micros) in [(0.5, 500), (0.9, 900), (0.99, 990)] {
            let found = latency.quantile(q).as_micros();
            assert!(found.abs_diff(micros) <= 1, "{q}: {found}");
        }
        assert_eq!(latency.quantile(1.0), Duration::from_micros(1000));
        assert_eq!(latency.calls(), 1000);
        let text = latency.members(Object::new()).finish();
        assert!(text.starts_with("{\"p50_us\":50") && text.ends_with("\"max_us\":1000.0}"), "{text}");
    }
}

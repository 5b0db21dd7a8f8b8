//! The latency of calls: percentiles and rate.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::CliError;
use crate::json::object::Object;
use crate::text::duration::format_duration;

/// The latencies of calls that are made one after the other.
#[derive(Debug)]
pub(crate) struct Latency {
    nanos: Histogram<u64>,
    max: u64,
    started: Instant,
}

impl Latency {
    /// Starts the clock of the rate, with no call yet.
    pub(crate) fn start() -> Result<Self, CliError> {
        let nanos = Histogram::new(SIGNIFICANT_DIGITS)
            .map_err(|error| CliError::system("cannot measure", &std::io::Error::other(error)))?;
        Ok(Self { nanos, max: 0, started: Instant::now() })
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The histogram resizes itself, so this cannot fail.
        let _ = self.nanos.record(nanos.max(1));
        self.max = self.max.max(nanos);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.nanos.len()
    }

    /// Returns the quantile `q` of the latencies: 0.99 is the 99th percentile.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        // The histogram returns the upper end of a bucket, which may be above the maximum.
        Duration::from_nanos(self.nanos.value_at_quantile(q).min(self.max))
    }

    /// Returns the number of calls a second, pauses included.
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no exact number of calls")]
        let calls = self.calls() as f64;
        calls / seconds.max(f64::EPSILON)
    }

    /// Formats the percentiles as `p50 83.4 us, p90 100 us, p99 200 us, max 1.00 ms`.
    pub(crate) fn text(&self) -> String {
        let times = QUANTILES.map(|(name, q)| format!("{name} {}", format_duration(self.quantile(q))));
        times.join(", ")
    }

    /// Adds the percentiles to an object, in microseconds.
    pub(crate) fn members(&self, object: Object) -> Object {
        QUANTILES.iter().fold(object, |object, (name, q)| {
            let micros = self.quantile(*q).as_secs_f64() * 1e6;
            object.member(&format!("{name}_us"), format!("{micros:.1}"))
        })
    }
}

/// The percentiles that are reported.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// The precision of the histogram: an error of at most one in a thousand.
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

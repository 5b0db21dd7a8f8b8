//! The result of a run: one line of JSON.

use std::fmt;
use std::fs;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::meter::Meter;

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Report(Map<String, Value>);

impl Report {
    pub(crate) fn new(meter: &Meter, elapsed: Duration, own: Duration, server: Option<Duration>) -> Self {
        let mut report = Self::default();
        report.put("calls", meter.calls);
        report.put("elapsed_ns", u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        for (key, part) in [("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99)] {
            report.put(key, meter.latencies.value_at_quantile(part));
        }
        report.put("max_ns", meter.latencies.max());
        report.put("cpu_us", own.as_secs_f64() * 1e6);
        if let Some(server) = server {
            report.put("server_cpu_us", server.as_secs_f64() * 1e6);
        }
        report.put("rss_kib", memory("self", "VmRSS"));
        report.put("peak_kib", memory("self", "VmHWM"));
        report
    }

    /// Returns a report that has only what is [`put`](Self::put) into it.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a figure of the contender's own.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_string(), value.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json!(self.0).fmt(f)
    }
}

/// Returns a figure of a process's status, in KiB; 0 if there is none.
pub(crate) fn memory(process: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

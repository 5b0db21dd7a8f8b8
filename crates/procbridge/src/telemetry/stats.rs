//! The counters of a server: connections, sessions, bytes, and for each method its calls and their durations. `$/stats`
//! returns them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::json::object_writer::ObjectWriter;
use crate::limits::permits::{Account, Permit, Resource, Semaphore};

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    pub(crate) connections: Gauge,
    #[allow(dead_code, reason = "a server without sessions counts none")]
    pub(crate) sessions: Gauge,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// One-way calls that were not run.
    dropped: AtomicU64,
    /// The counters of each method, sorted by name.
    methods: Vec<(Box<str>, Arc<Counters>)>,
    other: Arc<Counters>,
}

/// The number of connections or sessions: how many are open now, and how many were opened in all.
#[derive(Debug)]
pub(crate) struct Gauge {
    open: Semaphore,
    total: AtomicU64,
}

/// The timer of a call. The call is in flight until this is dropped, and counts as an error unless settled otherwise.
#[derive(Debug)]
pub(crate) struct CallTimer {
    counters: Arc<Counters>,
    began: Instant,
    ended: Option<Instant>,
    is_good: AtomicBool,
}

/// The counters of one method.
#[derive(Debug, Default)]
struct Counters {
    /// Calls that have ended.
    calls: AtomicU64,
    errors: AtomicU64,
    in_flight: AtomicU64,
    /// Durations in microseconds. Absent until the first call has ended: a histogram takes some KiB.
    times: Mutex<Option<Histogram<u64>>>,
}

impl Stats {
    /// Returns counters for the `methods`, sorted by name, of a server with at most so many connections. The table
    /// never grows: other names that callers use are counted under one.
    pub(crate) fn new<'a>(connections: usize, methods: impl IntoIterator<Item = &'a str>) -> Self {
        let counted = methods.into_iter().take(MAX_METHODS);
        Self {
            started: Instant::now(),
            connections: Gauge::of(Semaphore::shared(connections, Resource::Connections)),
            sessions: Gauge::of(Semaphore::new(usize::MAX)),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            methods: counted.map(|name| (name.into(), Arc::default())).collect(),
            other: Arc::default(),
        }
    }

    /// Counts a call that begins now.
    #[cfg(test)]
    pub(crate) fn begin(&self, method: Option<&str>) -> CallTimer {
        self.begin_at(method, Instant::now())
    }

    /// Counts a call that `began` just now.
    pub(crate) fn begin_at(&self, method: Option<&str>, began: Instant) -> CallTimer {
        let known = method.and_then(|method| {
            let at = self.methods.binary_search_by(|(name, _)| (**name).cmp(method)).ok()?;
            self.methods.get(at)
        });
        let counters = known.map_or(&self.other, |(_, counters)| counters).clone();
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        CallTimer { counters, began, ended: None, is_good: AtomicBool::new(false) }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts one-way calls that were dropped at a limit.
    pub(crate) fn dropped(&self, calls: u64) {
        self.dropped.fetch_add(calls, Ordering::Relaxed);
    }

    /// Appends the result of `$/stats`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::begin(out);
        object.number("uptime_ms", u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.connections.write(object.member("connections"));
        self.sessions.write(object.member("sessions"));
        let mut bytes = ObjectWriter::begin(object.member("bytes"));
        bytes.number("in", self.bytes_in.load(Ordering::Relaxed));
        bytes.number("out", self.bytes_out.load(Ordering::Relaxed));
        bytes.end();
        object.number("dropped", self.dropped.load(Ordering::Relaxed));
        let mut methods = ObjectWriter::begin(object.member("methods"));
        for (name, counters) in &self.methods {
            counters.write(methods.member(name));
        }
        if self.other.are_used() {
            self.other.write(methods.member(OTHER));
        }
        methods.end();
        object.end();
    }
}

impl Gauge {
    fn of(open: Semaphore) -> Self {
        Self { open, total: AtomicU64::new(0) }
    }

    /// Opens one more, until the permit is dropped, if the limit allows.
    pub(crate) fn open(&self) -> Option<Permit> {
        self.count(self.open.try_acquire(1))
    }

    /// Does the same for `account`, if its share allows too.
    pub(crate) fn open_for(&self, account: &Arc<Account>) -> Option<Permit> {
        self.count(self.open.try_acquire_for(account, 1))
    }

    fn count(&self, permit: Option<Permit>) -> Option<Permit> {
        self.total.fetch_add(u64::from(permit.is_some()), Ordering::Relaxed);
        permit
    }

    pub(crate) fn semaphore(&self) -> &Semaphore {
        &self.open
    }

    pub(crate) fn limit(&self) -> usize {
        self.open.limit()
    }

    pub(crate) fn open_now(&self) -> usize {
        self.open.used()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::begin(out);
        object.number("open", self.open.used() as u64);
        object.number("total", self.total.load(Ordering::Relaxed));
        object.end();
    }
}

impl CallTimer {
    /// Sets whether the call ended well. The last setting counts.
    pub(crate) fn settle(&self, is_good: bool) {
        self.is_good.store(is_good, Ordering::Relaxed);
    }

    /// Ends the call, well or not. Returns when.
    pub(crate) fn end(mut self, is_good: bool) -> Instant {
        let now = Instant::now();
        self.ended = Some(now);
        self.settle(is_good);
        now
    }
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        if !self.is_good.load(Ordering::Relaxed) {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        let ended = self.ended.unwrap_or_else(Instant::now);
        self.counters.took(ended.saturating_duration_since(self.began));
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    fn are_used(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0 || self.in_flight.load(Ordering::Relaxed) > 0
    }

    fn took(&self, time: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.is_none() {
            *times = Histogram::new(SIGNIFICANT_DIGITS).ok();
        }
        let micros = time.min(MAX_DURATION).as_micros();
        if let (Some(times), Ok(micros)) = (times.as_mut(), u64::try_from(micros)) {
            // The histogram grows with the longest duration, which is bounded, so this cannot fail.
            let _ = times.record(micros);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let quantile = |q| times.as_ref().map_or(0, |times| times.value_at_quantile(q));
        let mut object = ObjectWriter::begin(out);
        object.number("calls", self.calls.load(Ordering::Relaxed));
        object.number("errors", self.errors.load(Ordering::Relaxed));
        object.number("in_flight", self.in_flight.load(Ordering::Relaxed));
        for (key, q) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99)] {
            object.number(key, quantile(q));
        }
        object.number("max_us", times.as_ref().map_or(0, Histogram::max));
        object.end();
    }
}

/// Methods that are counted by name; the rest are counted under [`OTHER`].
const MAX_METHODS: usize = 1024;
/// The name for all other methods. The prefix `$/` is the protocol's, so no method of an application has it.
const OTHER: &str = "$/other";
/// Precision of a duration: an error of at most one in a hundred, in 8 KiB for methods under 16 ms.
const SIGNIFICANT_DIGITS: u8 = 2;
/// The longest duration counted, which bounds a histogram at 30 KiB.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    impl Stats {
        fn to_value(&self) -> Value {
            let mut text = Vec::new();
            self.write(&mut text);
            serde_json::from_slice(&text).unwrap()
        }
    }

    #[test]
    fn calls_errors_and_times_are_counted_by_method() {
        let stats = Stats::new(1, ["a", "b"]);
        for good in [true, true, false] {
            stats.begin(Some("a")).settle(good);
        }
        let running = stats.begin(Some("b"));
        let value = stats.to_value();
        let read = |method: &str, key: &str| value["methods"][method][key].as_u64().unwrap();
        assert_eq!((read("a", "calls"), read("a", "errors"), read("a", "in_flight")), (3, 1, 0));
        assert_eq!((read("b", "calls"), read("b", "errors"), read("b", "in_flight")), (0, 0, 1));
        assert_eq!(read("b", "max_us"), 0);
        drop(running);
        assert_eq!(stats.to_value()["methods"]["b"]["errors"], 1);
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let counters = Counters::default();
        for micros in 1..=1000 {
            counters.took(Duration::from_micros(micros));
        }
        counters.took(Duration::MAX);
        let mut text = Vec::new();
        counters.write(&mut text);
        let value: Value = serde_json::from_slice(&text).unwrap();
        let near = |key: &str, expected: u64| {
            let found = value[key].as_u64().unwrap();
            assert!(found.abs_diff(expected) * 100 <= expected, "{key}: {found}");
        };
        near("p50_us", 500);
        near("p90_us", 900);
        near("p99_us", 991);
        near("max_us", 24 * 60 * 60 * 1_000_000);
    }

    #[test]
    fn the_table_is_bounded_whatever_is_called() {
        let names: Vec<_> = (0..2 * MAX_METHODS).map(|n| format!("m{n:04}")).collect();
        let stats = Stats::new(1, names.iter().map(String::as_str));
        assert!(stats.to_value()["methods"].get(OTHER).is_none());
        for name in &names {
            stats.begin(Some(name)).settle(true);
            stats.begin(Some(&format!("unknown.{name}"))).settle(false);
        }
        stats.begin(None).settle(true);
        let value = stats.to_value();
        assert_eq!(value["methods"].as_object().unwrap().len(), MAX_METHODS + 1);
        assert_eq!(value["methods"]["m1023"]["calls"], 1);
        assert_eq!(value["methods"][OTHER]["calls"], 3 * MAX_METHODS + 1);
        assert_eq!(value["methods"][OTHER]["errors"], 2 * MAX_METHODS);
    }

    #[test]
    fn open_connections_are_counted_until_they_are_closed() {
        let stats = Stats::new(2, []);
        let first = stats.connections.open().unwrap();
        let second = stats.connections.open().unwrap();
        assert!(stats.connections.open().is_none());
        drop(first);
        let _session = stats.sessions.open();
        assert_eq!(stats.to_value()["connections"], json!({"open": 1, "total": 2}));
        assert_eq!(stats.to_value()["sessions"], json!({"open": 1, "total": 1}));
        drop(second);
    }
}

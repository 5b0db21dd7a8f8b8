//! How calls ended, and whether that fits what the servers ran.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use procbridge::{Error, Outcome};

/// The end of a call, as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The method's result, which is the right one.
    Answered,
    /// The server's refusal.
    Refused,
    NotSent,
    Unknown,
    /// It was written, and its caller did not wait for an end: a call without answer, or one that was given up.
    Left,
}

/// The ends of all calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ends: Mutex<Vec<(u64, End)>>,
    /// The errors of those that failed, and how often each came.
    words: Mutex<BTreeMap<String, u64>>,
    events: Mutex<u64>,
}

impl Tally {
    pub(crate) fn end(&self, number: u64, end: End) {
        self.ends.lock().unwrap().push((number, end));
    }

    pub(crate) fn error(&self, number: u64, error: &Error) {
        let remote = error.remote().and_then(|remote| remote.code());
        let words = format!("{:?} {:?} {}", error.outcome(), error.kind(), remote.unwrap_or(""));
        *self.words.lock().unwrap().entry(words.trim_end().into()).or_default() += 1;
        self.end(
            number,
            match error.outcome() {
                Outcome::Replied => End::Refused,
                Outcome::NotSent => End::NotSent,
                Outcome::Unknown => End::Unknown,
            },
        );
    }

    pub(crate) fn event(&self) {
        *self.events.lock().unwrap() += 1;
    }

    /// Compares the ends with what was run, which is in `record`: 8 bytes for each call.
    pub(crate) fn check(&self, record: &Path) -> Vec<String> {
        let mut runs: BTreeMap<u64, u32> = BTreeMap::new();
        for run in fs::read(record).unwrap().as_chunks::<8>().0 {
            *runs.entry(u64::from_le_bytes(*run)).or_default() += 1;
        }
        let twice = runs.iter().filter(|(_, runs)| **runs > 1);
        let mut wrong: Vec<_> =
            twice.map(|(number, runs)| format!("call {number} was run {runs} times")).collect();
        let mut ended = BTreeMap::new();
        for &(number, end) in &*self.ends.lock().unwrap() {
            if let Some(before) = ended.insert(number, end) {
                wrong.push(format!("call {number} ended {before:?} and {end:?}"));
            }
            match (end, runs.get(&number)) {
                (End::Answered, None) => wrong.push(format!("call {number} was answered and not run")),
                (End::NotSent, Some(_)) => wrong.push(format!("call {number} was not sent, and was run")),
                _ => {}
            }
        }
        wrong
    }

    pub(crate) fn count(&self) -> u64 {
        self.ends.lock().unwrap().len() as u64
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<End, u64> = BTreeMap::new();
        for (_, end) in &*self.ends.lock().unwrap() {
            *counts.entry(*end).or_default() += 1;
        }
        write!(f, "{} calls: {counts:?}; {} events; ", self.count(), self.events.lock().unwrap())?;
        write!(f, "what failed: {:?}", self.words.lock().unwrap())
    }
}

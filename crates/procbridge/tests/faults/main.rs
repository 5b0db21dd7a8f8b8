//! The outcome of calls when a server dies, stops, or is out of reach, and the memory of a server whose clients do not
//! read. The server is a process of its own: this program again, told by its environment to be one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod crowds;
mod deaf;
mod losses;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use procbridge::{Endpoint, Error, Outcome};
use serde_json::Value;

use crate::support::faces::{Face, Transport};

/// A server in a process of its own, killed when dropped.
struct Victim {
    child: Child,
    endpoint: Endpoint,
    /// The numbers of the calls that its handlers have begun.
    record: PathBuf,
    dir: tempfile::TempDir,
}

impl Victim {
    fn start(face: Face, transport: Transport, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        fs::write(&record, "").unwrap();
        let endpoint = match transport {
            Transport::Tcp => "127.0.0.1:0".to_string(),
            _ => format!("unix:{}", dir.path().join("s.sock").display()),
        };
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "server::is_this_program_when_it_is_told_to", "--nocapture"])
            .env(server::FACE, format!("{face:?}"))
            .env(server::ENDPOINT, endpoint)
            .env(server::RECORD, &record)
            .env(server::SETTINGS, settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let endpoint = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ").map(str::to_string))
            .unwrap();
        // Its other lines are passed on.
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(writeln!(std::io::stderr(), "server: {line}")));
        });
        Self { child, endpoint: endpoint.parse().unwrap(), record, dir }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns how many calls its handlers have begun.
    fn begun(&self) -> usize {
        usize::try_from(fs::metadata(&self.record).unwrap().len()).unwrap() / server::LINE
    }

    /// Returns how often each call was begun.
    fn runs(&self) -> HashMap<usize, usize> {
        let mut runs = HashMap::new();
        let text = fs::read_to_string(&self.record).unwrap();
        // A server that was killed may have been writing.
        for line in text.as_bytes().chunks_exact(server::LINE) {
            *runs.entry(std::str::from_utf8(line).unwrap().trim().parse().unwrap()).or_default() += 1;
        }
        runs
    }

    /// Returns its memory that is in use, in KiB.
    fn memory(&self) -> usize {
        memory_of(&self.child.id().to_string())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.dir.path();
    }
}

/// Returns the memory of a process that is in use, in KiB.
fn memory_of(process: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How calls ended.
#[derive(Debug, Default)]
struct Ends {
    replied: usize,
    not_sent: usize,
    unknown: usize,
}

/// Checks each call's end against what was begun.
fn classify(ends: &[(usize, Result<Value, Error>)], runs: &HashMap<usize, usize>) -> Ends {
    let mut seen = Ends::default();
    for (number, end) in ends {
        let count = runs.get(number).copied().unwrap_or(0);
        assert!(count <= 1, "call {number} was run {count} times: {end:?}");
        match end.as_ref().map_err(Error::outcome) {
            Ok(_) | Err(Outcome::Replied) => {
                seen.replied += 1;
                assert_eq!(count, 1, "call {number} was answered and not run: {end:?}");
            }
            Err(Outcome::NotSent) => {
                seen.not_sent += 1;
                assert_eq!(count, 0, "call {number} was not sent, and was run: {end:?}");
            }
            Err(Outcome::Unknown) => seen.unknown += 1,
        }
    }
    assert_eq!(seen.replied + seen.not_sent + seen.unknown, ends.len());
    seen
}

/// Figures, to be seen with `--nocapture`.
fn tell(figures: &str) {
    let _ = writeln!(std::io::stdout(), "figures: {figures}");
}

/// Locks out the other tests: these measure, so that they go one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a number that the environment may set.
fn setting(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

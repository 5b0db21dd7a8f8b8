//! A server in a process of its own, and what the system says of it.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::caller::Face;

/// The server.
#[derive(Debug)]
pub(crate) struct Process {
    face: Face,
    record: PathBuf,
    pub(crate) endpoints: Vec<String>,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// The resources that the process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    descriptors: usize,
    threads: usize,
    heap_kib: usize,
    resident_kib: usize,
}

impl Process {
    pub(crate) fn start(face: Face, record: &Path, endpoints: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &face.to_string()])
            .arg(record)
            .args(endpoints)
            // Or the allocator keeps what was large for the next one that is, and hides what is held.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let endpoints = line.strip_prefix("ready ").expect("the server is ready");
        let endpoints = endpoints.split(' ').map(str::to_string).collect();
        Self { face, record: record.into(), endpoints, child, lines }
    }

    /// Stops it in an orderly way, and tells how long that took.
    pub(crate) fn stop(mut self) -> Duration {
        self.end()
    }

    /// Stops it, and starts another one at the same places.
    pub(crate) fn restart(&mut self) -> Duration {
        let took = self.end();
        *self = Self::start(self.face, &self.record, &self.endpoints);
        took
    }

    fn end(&mut self) -> Duration {
        let began = Instant::now();
        drop(self.child.stdin.take());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "the server ended with {status}");
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(30), "the server does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn figures(&mut self) -> Figures {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status")).unwrap();
        let field = |name| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = fs::read_dir(process.join("fd")).unwrap().count();
        self.child.stdin.as_ref().unwrap().write_all(b"heap\n").unwrap();
        let heap_kib = self.lines.next().unwrap().unwrap().parse::<usize>().unwrap() / 1024;
        Figures { descriptors, threads: field("Threads:"), heap_kib, resident_kib: field("VmRSS:") }
    }

    /// Returns its figures once no client is left and nothing has changed for longer than any of its timeouts.
    pub(crate) fn at_rest(&mut self) -> Figures {
        let (began, mut figures, mut since) = (Instant::now(), self.figures(), Instant::now());
        while since.elapsed() < QUIET && began.elapsed() < 6 * QUIET {
            thread::sleep(Duration::from_millis(100));
            let now = self.figures();
            if (now.descriptors, now.threads) != (figures.descriptors, figures.threads) {
                since = Instant::now();
            }
            figures = now;
        }
        figures
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Figures {
    /// Returns the figures that have grown. Memory may grow a little.
    pub(crate) fn grown_since(&self, before: &Self) -> Option<String> {
        let is_same = self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.heap_kib <= before.heap_kib + HEAP_KIB
            && self.resident_kib <= before.resident_kib + MORE_KIB;
        if is_same { None } else { Some(format!("{self}, and had {before}")) }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, heap_kib, resident_kib } = self;
        write!(
            f,
            "{descriptors} descriptors, {threads} threads, {heap_kib} KiB on the heap, {resident_kib} KiB resident"
        )
    }
}

/// Half-sent requests are given up after 10 s, threads that stand ready after 5 s.
const QUIET: Duration = Duration::from_secs(12);

/// The tables and buffers of a server that has had much to do.
const HEAP_KIB: usize = 512;

/// The memory that an allocator keeps, however long it goes on.
const MORE_KIB: usize = 32 * 1024;

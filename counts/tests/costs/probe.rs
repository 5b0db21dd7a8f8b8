//! Running the probe, with or without a tool that counts what it does.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

/// The tool that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Nothing,
    /// Instructions.
    Callgrind,
    /// System calls.
    Strace,
}

/// A probe that serves.
pub(crate) struct Server {
    tool: Tool,
    child: Child,
    /// It ends when this closes.
    input: Option<ChildStdin>,
    dir: tempfile::TempDir,
    _output: BufReader<ChildStdout>,
}

impl Tool {
    fn command(self, report: &Path) -> Command {
        let probe = env!("CARGO_BIN_EXE_probe");
        // On one core, where neither side meets the other half way.
        let mut command = Command::new("taskset");
        command.args(["-c", &core()]);
        match self {
            Self::Nothing => {}
            Self::Callgrind => {
                let report = format!("--callgrind-out-file={}", report.display());
                command.args(["valgrind", "--tool=callgrind", "--quiet", &report]);
            }
            Self::Strace => {
                command.args(["strace", "-f", "-c", "-o"]).arg(report);
            }
        }
        command.arg(probe);
        command
    }

    /// Returns the counts of the tool.
    fn read(self, report: &Path) -> Counted {
        let text = fs::read_to_string(report).unwrap_or_default();
        match self {
            Self::Nothing => Counted::default(),
            Self::Callgrind => {
                let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
                Counted { all: total.trim().parse().unwrap(), transfers: 0.0 }
            }
            Self::Strace => {
                // % time, seconds, microseconds a call, calls, errors if there are any, name
                let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
                let rows = rows.filter_map(|row| Some((*row.last()?, row.get(3)?.parse().ok()?)));
                let rows: Vec<(&str, f64)> = rows.filter(|(name, _)| *name != "total").collect();
                let transfers = ["recvfrom", "sendto"];
                let is_transfer = |(name, _): &&(&str, f64)| transfers.contains(name);
                Counted {
                    all: rows.iter().map(|(_, calls)| calls).sum(),
                    transfers: rows.iter().filter(is_transfer).map(|(_, calls)| calls).sum(),
                }
            }
        }
    }
}

/// The counts of a tool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Instructions, system calls or allocations.
    pub(crate) all: f64,
    /// System calls that read from a socket or write to it.
    pub(crate) transfers: f64,
}

impl Counted {
    /// Returns the cost of each of `calls`, where `self` was counted with that many calls less than `more`.
    pub(crate) fn each(self, more: Self, calls: usize) -> Self {
        let each = |few: f64, many: f64| (many - few) / calls as f64;
        Self { all: each(self.all, more.all), transfers: each(self.transfers, more.transfers) }
    }
}

impl Server {
    pub(crate) fn start(tool: Tool, face: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = tool.command(&dir.path().join("server"));
        command.args(["serve", face, &endpoint(&dir)]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, mut output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { tool, child, input, dir, _output: output }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Returns a directory that is there as long as this is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the number of its process, if no tool runs it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until every thread of the server sleeps: it has done everything that its peers gave it to do.
    ///
    /// The threads are looked at one after the other, and one that was seen asleep may have been woken by one that was
    /// not. So nothing may have run between two looks.
    pub(crate) fn rest(&self) {
        let mut before = None;
        loop {
            let now = self.threads();
            if now.iter().all(|(state, _)| state == "S") && before.as_ref() == Some(&now) {
                return;
            }
            before = Some(now);
            thread::yield_now();
        }
    }

    /// Returns the state of each thread, and how often it has given up its core.
    fn threads(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let status = |task: std::io::Result<fs::DirEntry>| {
            // A thread may end between the two looks at it.
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let field = |name| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line?.split_whitespace().next().map(str::to_owned)
            };
            Some((field("State:")?, field("voluntary_ctxt_switches:")?))
        };
        tasks.filter_map(status).collect()
    }

    /// Runs a probe that makes calls, and returns what it printed and what the tool has counted of it.
    pub(crate) fn call(
        &self,
        tool: Tool,
        face: &str,
        style: &str,
        calls: usize,
        in_flight: usize,
    ) -> (f64, Counted) {
        let (calls, in_flight) = (calls.to_string(), in_flight.to_string());
        run(tool, self.dir.path(), &["call", face, style, &endpoint(&self.dir), &calls, &in_flight])
    }

    /// Ends it, and tells what was counted.
    pub(crate) fn end(mut self) -> Counted {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
        self.tool.read(&self.dir.path().join("server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the first core that this process may use.
fn core() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    cores.trim().split([',', '-']).next().unwrap().to_string()
}

fn endpoint(dir: &tempfile::TempDir) -> String {
    format!("unix:{}", dir.path().join("socket").display())
}

/// Runs a probe to its end; what it printed, and what was counted.
pub(crate) fn run(tool: Tool, dir: &Path, args: &[&str]) -> (f64, Counted) {
    let report = dir.join("client");
    let mut child = tool.command(&report).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    (printed.trim().parse().unwrap(), tool.read(&report))
}

//! Processes: on which cores they run, what they print, and that each of them ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// Where a process may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    All,
    Only(usize),
}

/// A process that is ended when it goes out of use.
pub(crate) struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
}

/// How long a server may take to listen.
const READY: Duration = Duration::from_secs(10);
/// How long a process may take to end when its standard input closes.
const END: Duration = Duration::from_secs(3);

/// Processes so far: each has a file of its own for its complaints.
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Child {
    /// Starts a process with its standard input held open. Its standard error goes to a file in `directory`.
    pub(crate) fn start(mut command: Command, cores: Cores, directory: &Path) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = directory.join(format!("errors-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&errors).map_err(|error| error.to_string())?;
        // A process inherits the cores of the thread that starts it.
        run_on(cores)?;
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn();
        run_on(Cores::All)?;
        let mut process = started.map_err(|error| format!("{name} cannot be started: {error}"))?;
        let output = process.stdout.take().ok_or("no output")?;
        let input = process.stdin.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, input, lines, errors })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until a server says that it listens.
    pub(crate) fn wait_ready(&mut self) -> Result<(), String> {
        let line = self.line(READY)?;
        if line == "ready" { Ok(()) } else { Err(format!("{line:?} instead of \"ready\"")) }
    }

    /// Returns the next line that it prints.
    pub(crate) fn line(&mut self, within: Duration) -> Result<String, String> {
        self.lines.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("said nothing within {within:?}{}", self.complaint()),
            RecvTimeoutError::Disconnected => format!("ended without a result{}", self.complaint()),
        })
    }

    /// Closes its standard input and waits for its end.
    pub(crate) fn end(self) {
        self.end_within(END);
    }

    /// Closes its standard input and waits up to `limit`: callgrind writes its report at the end.
    pub(crate) fn end_within(mut self, limit: Duration) {
        self.input = None;
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the last thing that it complained about.
    fn complaint(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        if last.is_empty() { String::new() } else { format!(": {last}") }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it has ended, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets this thread, and what it starts, run on these cores only.
pub(crate) fn run_on(cores: Cores) -> Result<(), String> {
    let mut set = CpuSet::new();
    match cores {
        Cores::Only(core) => set.set(core),
        Cores::All => (0..CpuSet::MAX_CPU).for_each(|core| set.set(core)),
    }
    sched_setaffinity(None, &set).map_err(|error| format!("cores {cores:?}: {error}"))
}

/// Keeps its core busy until its standard input closes: `bench hog`.
pub(crate) fn hog() -> ExitCode {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    println!("ready");
    loop {
        std::hint::spin_loop();
    }
}

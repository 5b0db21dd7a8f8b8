//! Servers under attack, each in a process of its own that ends with this one.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tempfile::TempDir;

use crate::connection::At;
use crate::packet::{self, GOOD};

/// Which server is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A small server of the blocking face.
    Blocking,
    /// A small server of the tokio face.
    Tokio,
    /// `procbridge serve --demo`, which has the blocking face.
    Demo,
}

/// A setting of the server, by its name in `abuse-peer`; times in milliseconds.
pub(crate) type Setting = (&'static str, u64);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) unix: At,
    pub(crate) tcp: At,
    child: Child,
    stdin: Option<ChildStdin>,
    dir: TempDir,
}

/// The directories of running servers.
static DIRS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what servers have on disk, when this process ends in their midst.
pub(crate) fn forget_all() {
    for dir in DIRS.lock().unwrap().drain(..) {
        let _ = std::fs::remove_dir_all(dir);
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
            Self::Demo => "demo",
        })
    }
}

impl Server {
    /// Starts one. `files` is the limit of its descriptors.
    pub(crate) fn start(target: Target, settings: &[Setting], files: Option<u64>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("abuse").tempdir()?;
        let path = dir.path().join("s");
        DIRS.lock().unwrap().push(dir.path().into());
        let mut command = match target {
            Target::Blocking | Target::Tokio => {
                let mut command = tied(&peer(), files)?;
                command.args(["serve", &target.to_string()]).arg(&path);
                command.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
                // As the guide has it for programs that take large messages; the demo server does it itself.
                command.env("MALLOC_MMAP_THRESHOLD_", "131072");
                command.stdout(Stdio::piped()).stderr(Stdio::null());
                command
            }
            Target::Demo => {
                let mut command = tied(&procbridge(), files)?;
                command.args(["serve", "--demo", "127.0.0.1:0"]).arg(&path);
                for (name, value) in settings {
                    command.arg(format!("--{}", name.replace('_', "-")));
                    let is_time = name.contains("timeout") || *name == "drain";
                    command.arg(if is_time { format!("{value}ms") } else { value.to_string() });
                }
                command.stdout(Stdio::null()).stderr(Stdio::piped());
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let output: Box<dyn BufRead + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), _) => Box::new(BufReader::new(stdout)),
            (None, Some(stderr)) => Box::new(BufReader::new(stderr)),
            (None, None) => return Err(io::Error::other("the server has no output")),
        };
        let mut lines = output.lines();
        let line = lines.next().transpose()?.unwrap_or_default();
        // Its log is read, so that it is never what a server waits for.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = line.split([' ', '?']).find_map(|word| word.strip_prefix("tcp:"));
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::other(format!("the server is not ready, it says {line:?}")));
        };
        Ok(Self { target, unix: At::Unix(path), tcp: At::Tcp(address), child, stdin, dir })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a directory that is gone with the server.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether classic calls and sessions are answered, on both transports.
    pub(crate) fn is_right(&self) -> io::Result<()> {
        let text = packet::text("sum", "[1,2,39]");
        for at in [&self.unix, &self.tcp] {
            for answer in [at.ask(&text)?, at.session()?.ask(&text)?] {
                if answer.kind != GOOD || answer.content != br#"{"payload":42}"# {
                    return Err(io::Error::other(String::from_utf8_lossy(&answer.content).into_owned()));
                }
            }
        }
        Ok(())
    }

    /// Makes it stop in an orderly way, and returns how long that took. Nothing if it did not.
    pub(crate) fn stop(mut self, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        drop(self.stdin.take());
        if self.target == Target::Demo {
            let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        within(&mut self.child, limit).map(|_| began.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        DIRS.lock().unwrap().retain(|dir| dir != self.dir.path());
    }
}

/// Waits for the end of a process, for so long.
pub(crate) fn within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the programs of the library that stand beside this one.
pub(crate) fn peer() -> PathBuf {
    beside("abuse-peer")
}

/// Returns the command line.
pub(crate) fn procbridge() -> PathBuf {
    std::env::var_os("PROCBRIDGE_BIN").map_or_else(|| beside("procbridge"), PathBuf::from)
}

fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(Path::new("."));
    // A test program is one directory below.
    [dir.join(name), dir.join("..").join(name)].into_iter().find(|path| path.exists()).unwrap_or_default()
}

/// Returns a command for a program that is killed when the thread that starts it ends, however that is.
pub(crate) fn tied(program: &Path, files: Option<u64>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("tied").arg(files.map_or_else(|| "-".to_string(), |files| files.to_string())).arg(program);
    Ok(command)
}

/// Becomes the program that a [`tied`] command names.
pub(crate) fn become_tied(files: &str, program: &str, arguments: &[String]) -> ExitCode {
    let tie = || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Ok(files) = files.parse() {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        Err(Command::new(program).args(arguments).exec())
    };
    if let Err(error) = tie() {
        crate::report::complain(&format!("cannot start {program:?}: {error}"));
    }
    ExitCode::from(127)
}

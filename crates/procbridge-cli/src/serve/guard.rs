//! The guard of `serve --exec`: a small process that kills what a killed server leaves running.
//!
//! A server that ends in an orderly way ends its commands itself. One that is killed cannot, and the system has nothing that
//! ends the commands' own children with it. So the server tells the guard by a pipe which commands run. The end of the pipe
//! is the end of the server, and then the guard kills their process groups.

use std::io::{self, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// The server's end of the pipe, and the process at the other.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: Option<PipeWriter>,
    process: Child,
    /// Distinguishes the commands of this server from those of all others.
    server: String,
}

impl Guard {
    /// Starts the guard of the server that calls itself `server`.
    pub(crate) fn start(server: &str) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        // A guard that was stopped must not stop the server.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        // Its name is not the server's: what kills all processes of that name leaves the guard to do its work.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(PROCESS_NAME).arg(server).env_clear().current_dir("/").process_group(0);
        command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn()?;
        Ok(Self { pipe: Some(pipe), process, server: server.to_string() })
    }

    /// The process, which its parent must not take for an orphan.
    pub(crate) fn id(&self) -> Option<Pid> {
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
    }

    /// Sets the variable by which the guard finds a command of which it knows the number only.
    pub(crate) fn mark(&self, command: &mut Command, number: u64) {
        command.env(VARIABLE, format!("{}-{number}", self.server));
    }

    /// Tells that a command is about to start. From here on it dies with the server.
    pub(crate) fn child_starts(&mut self, number: u64) -> io::Result<()> {
        self.send(&format!("{number} 0\n"))
    }

    /// Tells the process group of a command.
    pub(crate) fn child_runs(&mut self, number: u64, group: Pid) -> io::Result<()> {
        self.send(&format!("{number} {}\n", group.as_raw_pid()))
    }

    /// Tells that a command has ended. Its process is collected afterwards only, so that the group's number is its own for as
    /// long as the guard knows it.
    pub(crate) fn child_ended(&mut self, number: u64) -> io::Result<()> {
        self.send(&format!("{number}\n"))
    }

    /// A pipe takes so short a line as a whole or not at all.
    fn send(&mut self, line: &str) -> io::Result<()> {
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Kills the guard, which knows no longer what runs.
    pub(crate) fn dismiss(mut self) {
        let _ = self.process.kill();
    }
}

impl Drop for Guard {
    /// Waits for the guard's end, so that it is not left to a parent that collects nothing.
    fn drop(&mut self) {
        self.pipe = None;
        let end = Instant::now() + GUARD_TIMEOUT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The name under which a guard runs.
pub(crate) const PROCESS_NAME: &str = "pb-guard";

pub(crate) const VARIABLE: &str = "PROCBRIDGE_COMMAND";

/// The wait for a command that is about to begin, and for the end of a guard.
pub(crate) const GUARD_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

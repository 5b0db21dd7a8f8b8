//! The guard of `serve --exec`: a small process that kills the commands of a killed server.
//!
//! A server kills its commands itself in a graceful shutdown. A server that is killed cannot, and the system does not kill
//! the commands' own children. So the server tells the guard through a pipe which commands run. When the pipe closes, the
//! server has ended, and the guard kills the process groups.

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
    /// The server's name, which marks its commands.
    server: String,
}

impl Guard {
    /// Starts the guard of the server with the name `server`.
    pub(crate) fn start(server: &str) -> io::Result<Self> {
        let (reader, pipe) = io::pipe()?;
        // The pipe is non-blocking, or a stopped guard would block the server.
        rustix::io::ioctl_fionbio(&pipe, true)?;
        // The guard has a name of its own, so that it survives if all processes of the server's name are killed.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(PROCESS_NAME).arg(server).env_clear().current_dir("/").process_group(0);
        command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn()?;
        Ok(Self { pipe: Some(pipe), process, server: server.to_string() })
    }

    /// Returns the process, which is no orphan.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Sets the variable by which the guard finds a command whose process group it does not know.
    pub(crate) fn mark(&self, command: &mut Command, number: u64) {
        command.env(VARIABLE, format!("{}-{number}", self.server));
    }

    /// Registers a command that is about to start. From now on it dies with the server.
    pub(crate) fn child_starts(&mut self, number: u64) -> io::Result<()> {
        self.send(&format!("{number} 0\n"))
    }

    /// Registers the process group of a command.
    pub(crate) fn child_runs(&mut self, number: u64, group: Pid) -> io::Result<()> {
        self.send(&format!("{number} {}\n", group.as_raw_pid()))
    }

    /// Unregisters a command that has ended. Reap it afterwards, or the guard may kill a new group with the same id.
    pub(crate) fn child_ended(&mut self, number: u64) -> io::Result<()> {
        self.send(&format!("{number}\n"))
    }

    /// Writes a line. A pipe takes a line this short as a whole or not at all.
    fn send(&mut self, line: &str) -> io::Result<()> {
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Kills a guard that has missed a message.
    pub(crate) fn dismiss(mut self) {
        let _ = self.process.kill();
    }
}

impl Drop for Guard {
    /// Waits for the guard's end, so that no parent has to reap it.
    fn drop(&mut self) {
        self.pipe = None;
        let end = Instant::now() + GUARD_TIMEOUT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The process name of a guard.
pub(crate) const PROCESS_NAME: &str = "pb-guard";
/// The variable that marks a command.
pub(crate) const VARIABLE: &str = "PROCBRIDGE_COMMAND";
/// The wait for a command that is starting, and for the end of a guard.
pub(crate) const GUARD_TIMEOUT: Duration = Duration::from_secs(1);
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(2);

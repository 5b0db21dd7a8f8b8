//! One run of a command, in a process group of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::serve::child_registry::Children;
use crate::serve::last_line::LastLine;
use crate::serve::pipes::{Pipes, read_some};

/// A running command. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct ExecChild {
    child: Child,
    /// The process group, until the process is reaped.
    group: Option<Pid>,
    children: Children,
}

/// The exit of a command.
#[derive(Debug)]
pub(crate) struct ChildExit {
    pub(crate) status: ExitStatus,
    pub(crate) output: Vec<u8>,
    pub(crate) last_line: String,
}

/// The reason why a command was killed.
#[derive(Debug)]
pub(crate) enum ChildError {
    /// The call was cancelled, or its timeout passed.
    Cancelled,
    /// The output exceeded the limit.
    OutputTooLarge,
    /// A pipe or the process failed.
    Io(io::Error),
}

impl ExecChild {
    /// Starts `command` in a process group of its own, so that it can be killed with all that it starts.
    pub(crate) fn start(children: &Children, mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let is_shut_down = children.is_shut_down.read().unwrap_or_else(PoisonError::into_inner);
        if *is_shut_down {
            return Err(io::Error::other("the server is shutting down"));
        }
        let number = {
            let running = children.lock();
            children.guard_slot().child_starts(&mut command, &running)
        };
        let child = command.spawn().inspect_err(|_| {
            children.guard_slot().send(|guard| guard.child_ended(number));
        })?;
        let group = Pid::from_child(&child);
        children.lock().insert(group, number);
        children.guard_slot().send(|guard| guard.child_runs(number, group));
        Ok(Self { child, group: Some(group), children: children.clone() })
    }

    /// Writes `input` to the command, and reads at most `limit` bytes of its output.
    ///
    /// `time_left` returns how long the command may still run, `None` to kill it. It is called at least once a
    /// [`CHECK_INTERVAL`].
    pub(crate) fn run(
        mut self,
        input: &[u8],
        limit: usize,
        time_left: impl Fn() -> Option<Duration>,
    ) -> Result<ChildExit, ChildError> {
        let mut pipes = Pipes::of(&mut self.child).map_err(ChildError::Io)?;
        let (mut input, mut output, mut last_line) = (input, Vec::new(), LastLine::default());
        let mut chunk = vec![0; CHUNK_SIZE];
        while pipes.are_open() {
            let wait = time_left().ok_or(ChildError::Cancelled)?.min(CHECK_INTERVAL);
            pipes.wait(wait).map_err(ChildError::Io)?;
            pipes.write(&mut input);
            if let Some(bytes) = read_some(&mut pipes.stdout, &mut chunk).map_err(ChildError::Io)? {
                output.extend_from_slice(bytes);
                if output.len() > limit {
                    return Err(ChildError::OutputTooLarge);
                }
            }
            if let Some(bytes) = read_some(&mut pipes.stderr, &mut chunk).map_err(ChildError::Io)? {
                last_line.push(bytes);
            }
        }
        // The output is closed. The command usually has ended too, but it may still read its input.
        let mut pause = MIN_PAUSE;
        loop {
            if let Some(status) = self.try_wait().map_err(ChildError::Io)? {
                return Ok(ChildExit { status, output, last_line: last_line.text() });
            }
            let wait = time_left().ok_or(ChildError::Cancelled)?.min(pause);
            pipes.wait(wait).map_err(ChildError::Io)?;
            pipes.write(&mut input);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Reaps the command if it has ended.
    ///
    /// Unregister the group under the lock, or another thread may kill a new process with the same id.
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut running = self.children.lock();
        if let Some(group) = self.group
            && has_ended(group)
            && let Some(number) = running.get(&group)
        {
            self.children.guard_slot().send(|guard| guard.child_ended(*number));
        }
        let status = self.child.try_wait();
        // After an error another process has reaped the command, and its id may be reused too.
        if !matches!(status, Ok(None))
            && let Some(group) = self.group.take()
        {
            running.remove(&group);
        }
        status
    }
}

impl Drop for ExecChild {
    fn drop(&mut self) {
        // The command was not reaped, so its id is still its own.
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
            let number = self.children.lock().remove(&group);
            if let Some(number) = number {
                self.children.guard_slot().send(|guard| guard.child_ended(number));
            }
            let _ = self.child.wait();
        }
    }
}

/// Whether the child has ended. It is not reaped.
fn has_ended(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(child), options).is_ok_and(|status| status.is_some())
}

/// The longest time between two checks of a silent command.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The pauses between two checks for the exit, which double.
const MIN_PAUSE: Duration = Duration::from_micros(50);
const MAX_PAUSE: Duration = Duration::from_millis(20);
const CHUNK_SIZE: usize = 64 * 1024;

//! One run of a command: its input and output, its end, and the end of all that it started.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::serve::child_registry::Children;
use crate::serve::last_line::LastLine;
use crate::serve::pipes::{Pipes, take};

/// A running command. Dropping it kills what is left of it.
#[derive(Debug)]
pub(crate) struct ExecChild {
    child: Child,
    group: Option<Pid>,
    children: Children,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct ChildExit {
    pub(crate) status: ExitStatus,
    pub(crate) output: Vec<u8>,
    pub(crate) last_line: String,
}

/// Why a command was not let go on.
#[derive(Debug)]
pub(crate) enum ChildError {
    /// Nobody waits for its end any more.
    Cancelled,
    /// Its output went past the limit.
    OutputTooLarge,
    /// Reading from it failed.
    Io(io::Error),
}

impl ExecChild {
    /// Starts `command` in a process group of its own, so that it can be ended with all that it starts.
    pub(crate) fn start(children: &Children, mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let is_shut_down = children.is_shut_down.read().unwrap_or_else(PoisonError::into_inner);
        if *is_shut_down {
            return Err(io::Error::other("the server is stopping"));
        }
        let number = {
            let running = children.lock();
            children.guard_slot().child_starts(&mut command, &running)
        };
        let child = command.spawn().inspect_err(|_| {
            children.guard_slot().send(|guard| guard.child_ended(number));
        })?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            children.lock().insert(group, number);
            children.guard_slot().send(|guard| guard.child_runs(number, group));
        }
        Ok(Self { child, group, children: children.clone() })
    }

    /// Gives the command its `input` and collects at most `limit` bytes of output. `time_left` tells how long it may go
    /// on, nothing when it must end now; it is asked at least every [`CHECK_INTERVAL`].
    pub(crate) fn run(
        mut self,
        input: &[u8],
        limit: usize,
        time_left: impl Fn() -> Option<Duration>,
    ) -> Result<ChildExit, ChildError> {
        let mut pipes = Pipes::of(&mut self.child).map_err(ChildError::Io)?;
        let (mut left, mut output, mut last_line) = (input, Vec::new(), LastLine::default());
        let mut chunk = vec![0; CHUNK_SIZE];
        while pipes.are_open() {
            let wait = time_left().ok_or(ChildError::Cancelled)?.min(CHECK_INTERVAL);
            pipes.wait(wait).map_err(ChildError::Io)?;
            pipes.write(&mut left);
            if let Some(bytes) = take(&mut pipes.stdout, &mut chunk).map_err(ChildError::Io)? {
                output.extend_from_slice(bytes);
                if output.len() > limit {
                    return Err(ChildError::OutputTooLarge);
                }
            }
            if let Some(bytes) = take(&mut pipes.stderr, &mut chunk).map_err(ChildError::Io)? {
                last_line.push(bytes);
            }
        }
        // It says no more; usually it has ended with that, but it may also read on.
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(status) = self.end().map_err(ChildError::Io)? {
                return Ok(ChildExit { status, output, last_line: last_line.text() });
            }
            let wait = time_left().ok_or(ChildError::Cancelled)?.min(pause);
            pipes.wait(wait).map_err(ChildError::Io)?;
            pipes.write(&mut left);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// How the command ended, if it has. Its number may belong to another process from then on, so it is taken off the
    /// list before anybody could kill by it.
    fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut running = self.children.lock();
        if let Some(group) = self.group
            && has_ended(group)
            && let Some(number) = running.get(&group)
        {
            self.children.guard_slot().send(|guard| guard.child_ended(*number));
        }
        let status = self.child.try_wait();
        // Nor is it its own if this fails: somebody else has collected it.
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
        // It has not been waited for, so the number is still its own.
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

/// Whether the child has ended, which is collected by what comes behind this.
fn has_ended(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(child), options).is_ok_and(|status| status.is_some())
}

/// How often a running command is looked after when it says nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

const MAX_PAUSE: Duration = Duration::from_millis(20);

const CHUNK_SIZE: usize = 64 * 1024;

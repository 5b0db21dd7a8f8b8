//! One run of a command: its input and output, its end, and the end of all that it started.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::serve::guard::Guard;
use crate::terminal::stdout;

/// The commands that run now. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    /// Their numbers, by process group.
    running: Arc<Mutex<HashMap<Pid, u64>>>,
    /// Whether nothing starts any more. A command is entered while this is held, so that one that has just begun is not
    /// left out when all are ended, nor taken for an orphan.
    is_shut_down: Arc<RwLock<bool>>,
    guard: Arc<Mutex<GuardSlot>>,
}

/// The guard, if there is one. Its lock is the last to be taken.
#[derive(Debug, Default)]
struct GuardSlot {
    guard: Option<Guard>,
    /// What the server is called there; nothing before the first command may start.
    server: Option<String>,
    last: u64,
    has_warned: bool,
}

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

impl Children {
    /// Starts what kills the commands if this process is killed.
    pub(crate) fn start_guard(&self) {
        // The standard library's only source of randomness is its hasher's seed.
        let random = RandomState::new().build_hasher().finish();
        let mut slot = self.guard_slot();
        slot.server = Some(format!("{random:016x}"));
        slot.ensure(&HashMap::new());
    }

    /// Starts `command` in a process group of its own, so that it can be ended with all that it starts.
    pub(crate) fn start(&self, mut command: Command) -> io::Result<ExecChild> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let is_shut_down = self.is_shut_down.read().unwrap_or_else(PoisonError::into_inner);
        if *is_shut_down {
            return Err(io::Error::other("the server is stopping"));
        }
        let number = {
            let running = self.lock();
            self.guard_slot().child_starts(&mut command, &running)
        };
        let child = command.spawn().inspect_err(|_| {
            self.guard_slot().send(|guard| guard.child_ended(number));
        })?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            self.lock().insert(group, number);
            self.guard_slot().send(|guard| guard.child_runs(number, group));
        }
        Ok(ExecChild { child, group, children: self.clone() })
    }

    /// Kills everything that runs, and lets nothing start any more.
    pub(crate) fn kill_all(&self) {
        *self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner) = true;
        for group in self.lock().keys() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }

    /// Ends the guard. Nothing may run any more.
    pub(crate) fn stop_guard(&self) {
        let guard = self.guard_slot().guard.take();
        drop(guard);
    }

    /// Does `work` with the processes that this one has started and waits for, while it starts no other.
    pub(crate) fn with_children(&self, work: impl FnOnce(&HashSet<Pid>)) {
        let _is_over = self.is_shut_down.write().unwrap_or_else(PoisonError::into_inner);
        let running = self.lock();
        let slot = self.guard_slot();
        let guard = slot.guard.as_ref().and_then(Guard::id);
        work(&running.keys().copied().chain(guard).collect());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, u64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard_slot(&self) -> MutexGuard<'_, GuardSlot> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GuardSlot {
    /// Tells the guard that `command` begins. Returns its number.
    fn child_starts(&mut self, command: &mut Command, running: &HashMap<Pid, u64>) -> u64 {
        self.last += 1;
        let number = self.last;
        self.ensure(running);
        if !self.send(|guard| guard.child_starts(number)) {
            // It has gone; another takes its place.
            self.ensure(running);
            self.send(|guard| guard.child_starts(number));
        }
        if let Some(guard) = &self.guard {
            guard.mark(command, number);
        }
        number
    }

    /// Starts the guard if there is none, and tells it what runs.
    fn ensure(&mut self, running: &HashMap<Pid, u64>) {
        let Some(server) = self.server.as_ref().filter(|_| self.guard.is_none()) else { return };
        match Guard::start(server) {
            Ok(guard) => self.guard = Some(guard),
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                let error = stdout::plain(&error);
                log::warn!(
                    "commands will outlive this server if it is killed: cannot start their guard: {error}"
                );
            }
            Err(_) => {}
        }
        for (group, number) in running {
            self.send(|guard| guard.child_runs(*number, *group));
        }
    }

    /// Tells the guard something, if there is one. One that takes nothing is killed: it would kill by old numbers. Returns
    /// whether it is as it was.
    fn send(&mut self, word: impl FnOnce(&mut Guard) -> io::Result<()>) -> bool {
        let Some(mut guard) = self.guard.take() else { return true };
        if word(&mut guard).is_err() {
            guard.dismiss();
            return false;
        }
        self.guard = Some(guard);
        true
    }
}

impl ExecChild {
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

/// The pipes of a command that are still open on this side.
struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Pipes {
    fn of(child: &mut Child) -> io::Result<Self> {
        let pipes =
            Self { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
        for pipe in pipes.fds().into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(pipes)
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 3] {
        [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ]
    }

    /// Whether there may be more to read.
    fn are_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    fn wait(&self, limit: Duration) -> io::Result<()> {
        let flags = [PollFlags::OUT, PollFlags::IN, PollFlags::IN];
        let mut pipes: Vec<_> = self
            .fds()
            .into_iter()
            .zip(flags)
            .filter_map(|(pipe, flags)| pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, flags)))
            .collect();
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match poll(&mut pipes, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the command takes of `left`. One that takes no more of it has its reasons.
    fn write(&mut self, left: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(left) {
            Ok(count) => *left = left.get(count..).unwrap_or_default(),
            Err(error) if is_passing(&error) => {}
            Err(_) => *left = &[],
        }
        if left.is_empty() {
            self.stdin = None;
        }
    }
}

/// Reads what is there into `chunk`; a pipe that has ended is closed.
fn take<'a>(pipe: &mut Option<impl Read>, chunk: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    let Some(open) = pipe else { return Ok(None) };
    match open.read(chunk) {
        Ok(0) => {
            *pipe = None;
            Ok(None)
        }
        Ok(count) => Ok(chunk.get(..count)),
        Err(error) if is_passing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The last line that is not blank, of a stream that may be long.
#[derive(Debug, Default)]
struct LastLine {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl LastLine {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim_ascii().is_empty() {
            self.last = line;
        }
    }

    fn text(mut self) -> String {
        self.end_line();
        let text = String::from_utf8_lossy(&self.last);
        // A character that was cut at the bound is left out.
        text.trim().trim_end_matches(char::REPLACEMENT_CHARACTER).to_string()
    }
}

/// How often a running command is looked after when it says nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_millis(20);
const CHUNK_SIZE: usize = 64 * 1024;
/// Bytes of a line on standard error that make a message.
const MAX_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_is_not_blank_is_kept_within_its_bound() {
        let heard = |parts: &[&[u8]]| {
            let mut last_line = LastLine::default();
            parts.iter().for_each(|part| last_line.push(part));
            last_line.text()
        };
        assert_eq!(heard(&[]), "");
        assert_eq!(heard(&[b"one\ntw", b"o\n \r\n\n"]), "two");
        assert_eq!(heard(&[b"one\n", b"two"]), "two");
        assert_eq!(heard(&["é".repeat(1000).as_bytes()]).len(), 1024);
        assert_eq!(heard(&[b"x", "é".repeat(1000).as_bytes()]).len(), 1023);
    }
}

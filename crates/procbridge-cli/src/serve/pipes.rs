//! The pipes of a command.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The pipes of a command that are still open on this side.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Pipes {
    pub(crate) fn of(child: &mut Child) -> io::Result<Self> {
        let pipes =
            Self { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
        for pipe in pipes.fds().into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(pipes)
    }

    pub(crate) fn fds(&self) -> [Option<BorrowedFd<'_>>; 3] {
        [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ]
    }

    /// Whether there may be more to read.
    pub(crate) fn are_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    pub(crate) fn wait(&self, limit: Duration) -> io::Result<()> {
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
    pub(crate) fn write(&mut self, left: &mut &[u8]) {
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
pub(crate) fn take<'a>(pipe: &mut Option<impl Read>, chunk: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
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

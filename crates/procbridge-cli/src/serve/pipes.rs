//! The pipes to a command.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The open pipes to a command.
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

    /// Whether the output or standard error is open.
    pub(crate) fn are_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Waits until a pipe is ready, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let flags = [PollFlags::OUT, PollFlags::IN, PollFlags::IN];
        let mut pipes: Vec<_> = self
            .fds()
            .into_iter()
            .zip(flags)
            .filter_map(|(pipe, flags)| pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, flags)))
            .collect();
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut pipes, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes as much of `input` as the command takes. A command may close its input early.
    pub(crate) fn write(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(input) {
            Ok(count) => *input = input.get(count..).unwrap_or_default(),
            Err(error) if is_temporary(&error) => {}
            Err(_) => *input = &[],
        }
        if input.is_empty() {
            self.stdin = None;
        }
    }
}

/// Reads the available bytes into `chunk`. Closes a pipe that has ended.
pub(crate) fn read_some<'a>(
    pipe: &mut Option<impl Read>,
    chunk: &'a mut [u8],
) -> io::Result<Option<&'a [u8]>> {
    let Some(open) = pipe else { return Ok(None) };
    match open.read(chunk) {
        Ok(0) => {
            *pipe = None;
            Ok(None)
        }
        Ok(count) => Ok(chunk.get(..count)),
        Err(error) if is_temporary(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

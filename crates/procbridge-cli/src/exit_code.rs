//! The exit codes. Help texts and man pages list them, so a code is only ever added.

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// The reader of standard output has gone, which is no failure.
    ReaderGone = 0,
    Internal = 1,
    Usage = 2,
    Remote = 3,
    Connect = 4,
    Timeout = 5,
    Protocol = 6,
    Denied = 7,
    Threshold = 8,
    Interrupted = 130,
    Terminated = 143,
}

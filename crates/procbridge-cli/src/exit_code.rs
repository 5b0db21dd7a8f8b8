//! The exit codes.

/// The exit codes. They are told in the help texts and in the man pages, and are only added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// No process reads the output any more, which is no failure.
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

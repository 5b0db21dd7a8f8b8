//! The process that made a socket or file: after a fork two processes share it, and one must not end what the other
//! uses.

use std::process;

/// The process that made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Creator(u32);

impl Creator {
    /// Returns this process.
    pub(crate) fn this() -> Self {
        Self(process::id())
    }

    /// Returns another process.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self(0)
    }

    /// Whether this is the creating process. It costs a system call: not for each call of a session.
    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }
}

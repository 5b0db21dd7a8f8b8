//! Which process it was: a fork leaves two that hold the same sockets and files, of which one must not end what the other
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

    /// Whether it is this process. A system call: for what happens once, not for each call.
    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }
}

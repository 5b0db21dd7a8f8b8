//! One listener, and how many threads accept at it.

use std::os::fd::OwnedFd;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::listener::AllowedPeers;

/// The state shared by the threads that accept at one listener.
#[derive(Debug)]
pub(in crate::blocking) struct Listening {
    /// Weak, so no thread owns it while it serves a connection: a handler must not keep the endpoint from the next
    /// server.
    pub(in crate::blocking) socket: Weak<OwnedFd>,
    pub(in crate::blocking) peers: AllowedPeers,
    /// How many threads stay when there is nothing to do.
    pub(in crate::blocking) kept: usize,
    /// How many threads accept now.
    pub(in crate::blocking) idle: AtomicUsize,
}

impl Listening {
    /// Whether no thread accepts although connections may come.
    pub(in crate::blocking) fn lacks_thread(&self) -> bool {
        self.idle.load(Ordering::Acquire) == 0 && self.socket.strong_count() > 0
    }
}

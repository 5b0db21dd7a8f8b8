//! Threads, signals and random numbers of this process.

pub(crate) mod random;
pub(crate) mod signals;
pub(crate) mod thread;

//! Connects to a server and makes the calls of the commands.

pub(crate) mod builtin;
pub(crate) mod connect;
pub(crate) mod description;
pub(crate) mod hints;
pub(crate) mod interrupt;
pub(crate) mod latency;
pub(crate) mod print;
pub(crate) mod suggest;

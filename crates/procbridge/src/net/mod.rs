//! Sockets, socket files and processes of this system, without blocking.

pub(crate) mod accept_backoff;
pub(crate) mod connect;
pub(crate) mod listener;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod socket_file;

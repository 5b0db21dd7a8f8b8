//! One call on one connection, without its socket.

pub(crate) mod client;
pub(crate) mod server;

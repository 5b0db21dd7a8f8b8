//! The settings of clients and servers, each with its default. Both faces use the same.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod cores;
pub(crate) mod server;
pub(crate) mod token;

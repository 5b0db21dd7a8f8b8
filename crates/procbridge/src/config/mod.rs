//! The settings of clients and servers, each with its default. Both faces share them.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod cores;
pub(crate) mod server;
pub(crate) mod token;
pub(crate) mod tuning;

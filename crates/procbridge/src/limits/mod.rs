//! The limits of a server, and the share of each peer in them.

pub(crate) mod accounts;
pub(crate) mod admission;
pub(crate) mod inflation;
pub(crate) mod permits;
pub(crate) mod receive_rate;

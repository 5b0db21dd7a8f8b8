//! The work of a client before, between and after its calls: the same for both faces.

pub(crate) mod connections;
pub(crate) mod meta;
pub(crate) mod request;
pub(crate) mod retry;

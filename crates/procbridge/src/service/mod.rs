//! A request becomes a reply: the same for both faces.

pub(crate) mod builtin;
pub(crate) mod call;
pub(crate) mod item_sender;
pub(crate) mod routes;

//! Turns a request into a reply: the same for both faces.

pub(crate) mod arguments;
pub(crate) mod builtin;
pub(crate) mod call;
pub(crate) mod dispatch;
pub mod form;
pub(crate) mod item_sender;
pub(crate) mod layers;
pub(crate) mod reply;
pub(crate) mod routes;

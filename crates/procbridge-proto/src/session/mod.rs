//! Sessions: many calls on one connection, in both directions.

mod check;
pub(crate) mod draft;
mod ending;
pub(crate) mod flow_control;
pub(crate) mod frames;
pub(crate) mod reassembly;
pub(crate) mod receive;
pub(crate) mod send_queue;
pub(crate) mod session;

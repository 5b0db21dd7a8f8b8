//! Writes data to standard output, and messages to standard error.

pub(crate) mod descriptor;
pub(crate) mod label;
pub(crate) mod line_queue;
pub(crate) mod stderr;
pub(crate) mod stdout;

//! Formats text for people.

pub(crate) mod byte_order_mark;
pub(crate) mod duration;
pub(crate) mod system_error;
pub(crate) mod unprintable;

//! Takes packets apart into their fields.

pub(crate) mod names;
pub(crate) mod packet;

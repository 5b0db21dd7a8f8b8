//! Takes packets apart into their fields.

pub(crate) mod check;
pub(crate) mod format;
pub(crate) mod names;
pub(crate) mod packet;
pub(crate) mod position;

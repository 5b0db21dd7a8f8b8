//! Splits packets into their fields and checks them, for `procbridge decode`.

pub(crate) mod check;
pub(crate) mod format;
pub(crate) mod names;
pub(crate) mod packet;
pub(crate) mod position;

//! Writes JSON text.

pub(crate) mod layout;

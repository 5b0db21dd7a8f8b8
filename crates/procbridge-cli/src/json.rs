//! Writes JSON text.

pub(crate) mod envelope;
pub(crate) mod layout;
pub(crate) mod object;

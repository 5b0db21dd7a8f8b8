//! Writes JSON text, in which no digit, order or escape of a peer's text is changed.

pub(crate) mod envelope;
pub(crate) mod layout;
pub(crate) mod object;
pub(crate) mod string;

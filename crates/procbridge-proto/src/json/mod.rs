//! JSON text: its grammar, and where the members of an object stand.

pub(crate) mod brackets;
pub(crate) mod fast_scan;
pub(crate) mod grammar;
pub(crate) mod string;

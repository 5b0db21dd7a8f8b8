//! JSON text: its grammar, and the ranges of an object's members.

pub(crate) mod brackets;
pub(crate) mod fast_scan;
pub(crate) mod grammar;
pub(crate) mod string;

//! JSON text: written from values and members, and taken as it is.

pub(crate) mod object_writer;
pub(crate) mod parse;
pub(crate) mod raw_value;
pub(crate) mod serialize;

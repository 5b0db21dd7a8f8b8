//! JSON text: serialized from values, parsed into values, or passed on as it is.

pub(crate) mod object_writer;
pub(crate) mod parse;
pub(crate) mod raw_value;
pub(crate) mod serialize;

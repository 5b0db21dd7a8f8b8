//! Reads what the command line, files and standard input hold.

pub(crate) mod hex;
pub(crate) mod json_text;
pub(crate) mod pair;
pub(crate) mod payload;
pub(crate) mod source;

//! Reads what the command line, files and standard input hold.

pub(crate) mod hex;
pub(crate) mod payload;

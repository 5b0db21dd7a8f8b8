//! Reads payloads and bytes from the command line, files and standard input.

pub(crate) mod hex;
pub(crate) mod json_text;
pub(crate) mod pair;
pub(crate) mod payload;
pub(crate) mod source;

//! Compression of session packets (PB-CMP-*).

pub(crate) mod codec;
pub(crate) mod inflate;

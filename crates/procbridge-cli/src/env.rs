//! Reads the environment variables.

pub(crate) mod default_endpoint;
pub(crate) mod token;

//! Reads the environment variables of the command line.

pub(crate) mod default_endpoint;
pub(crate) mod token;
pub(crate) mod variable;

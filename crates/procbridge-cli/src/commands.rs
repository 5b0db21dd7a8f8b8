//! Runs the commands of the command line, a file for each.

pub(crate) mod call;
pub(crate) mod completions;
pub(crate) mod decode;
pub(crate) mod describe;
pub(crate) mod emit;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod ping;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod watch;

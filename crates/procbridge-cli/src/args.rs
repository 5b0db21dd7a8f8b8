//! Parses the command line.

pub(crate) mod builtin;
pub(crate) mod call;
pub(crate) mod command_line;
pub(crate) mod completions;
pub(crate) mod compression;
pub(crate) mod connect;
pub(crate) mod decode;
pub(crate) mod describe;
pub(crate) mod duration;
pub(crate) mod emit;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod output;
pub(crate) mod ping;
pub(crate) mod preprocess;
pub(crate) mod serve;
pub(crate) mod size;
pub(crate) mod stats;
pub(crate) mod target;
pub(crate) mod timeout;
pub(crate) mod utf8;
pub(crate) mod watch;
pub(crate) mod word;

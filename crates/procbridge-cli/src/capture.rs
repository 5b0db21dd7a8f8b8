//! Shows the packets of `--verbose` while they pass, and observes the server for `procbridge info`.

pub(crate) mod observed;
pub(crate) mod packet_line;
pub(crate) mod packet_splitter;
pub(crate) mod proxy;
pub(crate) mod redact;
pub(crate) mod relay;
pub(crate) mod server_socket;
pub(crate) mod state;

//! Shows the packets of a connection while they pass.

pub(crate) mod packet_splitter;
pub(crate) mod relay;

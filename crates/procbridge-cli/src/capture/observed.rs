//! Facts that a server shows when it connects.

/// The facts about a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The peer of the connection.
    pub(crate) peer: Option<String>,
    /// The HELLO of a server that accepts a session.
    pub(crate) hello: Option<Hello>,
}

/// The first packet of a session.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) options: u8,
    pub(crate) body: Vec<u8>,
}

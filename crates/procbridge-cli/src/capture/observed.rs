//! What a connection shows of a server.

/// What was observed of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Who is at the other end.
    pub(crate) peer: Option<String>,
    /// What it said of itself, if it holds a session.
    pub(crate) hello: Option<Hello>,
}

/// The first packet of a session.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) options: u8,
    pub(crate) body: Vec<u8>,
}

//! Where in a connection a packet is.

/// Where in a connection a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// At its start, as all packets of classic connections are.
    Start,
    /// Behind the offer of a session, on its side or on the other.
    Offered,
    /// In a session.
    Session,
}

impl Position {
    /// The position of the first packet of a capture.
    pub(crate) fn begin(in_session: bool) -> Self {
        if in_session { Self::Session } else { Self::Start }
    }
}

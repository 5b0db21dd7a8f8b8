//! The position of a packet in its connection.

/// The position of a packet in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// At the start, as every packet of a classic connection.
    Start,
    /// After the offer of a session, in either direction.
    Offered,
    /// In a session.
    Session,
}

//! The fields of a header: versions, status codes and flags, as they stand on the wire (PB-HDR-*).

use core::fmt;

/// Length of the header, in bytes.
pub const HEADER_LENGTH: usize = 11;

/// The flags in byte 5 of a header. They have a meaning in the offer of a session and within one.
pub mod flag {
    /// On a request: offers a session. On HELLO: accepts it.
    pub const SESSION: u8 = 0x01;
    /// A one-way request, which gets no answer.
    pub const ONE_WAY: u8 = 0x02;
    /// A request whose result may come in items.
    pub const STREAM: u8 = 0x04;
    /// More pieces of this body follow.
    pub const MORE: u8 = 0x08;
}

/// A version of the packet format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The superseded format with the keys `api`, `body` and `msg`.
    V1_0,
    /// The current format with the keys `method`, `payload` and `message`.
    #[default]
    V1_1,
}

/// The status code of a packet: its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Version {
    /// Returns the two bytes on the wire.
    pub fn bytes(self) -> [u8; 2] {
        match self {
            Self::V1_0 => [0x01, 0x00],
            Self::V1_1 => [0x01, 0x01],
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        match bytes {
            [0x01, 0x00] => Some(Self::V1_0),
            [0x01, 0x01] => Some(Self::V1_1),
            _ => None,
        }
    }
}

impl Status {
    /// A request.
    pub const REQUEST: Self = Self(0);
    /// A response with a result.
    pub const GOOD: Self = Self(1);
    /// A response with an error.
    pub const BAD: Self = Self(2);
    /// A side's settings: the first packet of a session.
    pub const HELLO: Self = Self(3);
    /// One element of a streamed result.
    pub const ITEM: Self = Self(4);
    /// Credit for further elements.
    pub const CREDIT: Self = Self(5);
    /// The cancellation of a call.
    pub const CANCEL: Self = Self(6);
    /// A keepalive, which asks for PONG.
    pub const PING: Self = Self(7);
    /// The answer to PING.
    pub const PONG: Self = Self(8);
    /// The graceful end of a session: no new calls. Those in flight go on.
    pub const GOODBYE: Self = Self(9);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] =
            ["REQUEST", "GOOD", "BAD", "HELLO", "ITEM", "CREDIT", "CANCEL", "PING", "PONG", "GOODBYE"];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
        })
    }
}

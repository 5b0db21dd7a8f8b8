//! The eleven bytes in front of every body (PB-HDR-*).
//!
//! ```text
//!     offset  0   1   2   3   4       5      6        7  8  9  10
//!         'p' 'b' version status  flags  options  length (little endian)
//! ```

use crate::error::ProtocolError;
use crate::wire::{HEADER_LENGTH, Status, Version};

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the packet.
    pub version: Version,
    /// The kind of packet.
    pub status: Status,
    /// Byte 5: 0 outside sessions, and ignored there on receipt.
    pub flags: u8,
    /// Byte 6: 0 outside sessions, and ignored there on receipt.
    pub options: u8,
    /// Length of the body, in bytes.
    pub length: u32,
}

impl Header {
    /// Returns a header with flags and options 0, as classic packets have it (PB-HDR-4).
    pub fn classic(version: Version, status: Status, length: u32) -> Self {
        Self { version, status, flags: 0, options: 0, length }
    }

    /// Returns the bytes of the header on the wire.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let [major, minor] = self.version.bytes();
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        [b'p', b'b', major, minor, self.status.0, self.flags, self.options, l0, l1, l2, l3]
    }

    /// Reads the header at the front of `input`, which may hold less or more than a header.
    ///
    /// Each check is made at a fixed number of bytes: the flag at one and two, the version at four, the rest at eleven.
    /// So a header that arrives in parts fails the same way as a whole one. `Ok(None)` means that bytes are missing and
    /// those so far are right.
    ///
    /// # Errors
    ///
    /// - [`ProtocolError::NotProcBridge`]: the flag is wrong.
    /// - [`ProtocolError::UnsupportedVersion`]: the version is neither 1.1 nor 1.0.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, ProtocolError> {
        for (offset, (&byte, flag)) in input.iter().zip(*b"pb").enumerate() {
            if byte != flag {
                return Err(ProtocolError::NotProcBridge { offset, byte });
            }
        }
        let &[_, _, major, minor, ref rest @ ..] = input else { return Ok(None) };
        let Some(version) = Version::from_bytes([major, minor]) else {
            return Err(ProtocolError::UnsupportedVersion { found: [major, minor], expected: None });
        };
        let &[status, flags, options, l0, l1, l2, l3, ..] = rest else { return Ok(None) };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        Ok(Some(Self { version, status: Status(status), flags, options, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let header =
            Header { flags: 0xA5, options: 0x5A, ..Header::classic(Version::V1_0, Status(9), 0x0403_0201) };
        assert_eq!(header.encode(), [b'p', b'b', 1, 0, 9, 0xA5, 0x5A, 1, 2, 3, 4]);
        assert_eq!(Header::parse(&header.encode()), Ok(Some(header)));
    }

    #[test]
    fn a_wrong_byte_is_named_as_soon_as_it_arrives() {
        assert_eq!(Header::parse(b"G"), Err(ProtocolError::NotProcBridge { offset: 0, byte: b'G' }));
        assert_eq!(Header::parse(b"p"), Ok(None));
        assert_eq!(Header::parse(b"pB\x09\x09"), Err(ProtocolError::NotProcBridge { offset: 1, byte: b'B' }));
        assert_eq!(Header::parse(b"pb\x09"), Ok(None));
        let too_new = ProtocolError::UnsupportedVersion { found: [9, 9], expected: None };
        assert_eq!(Header::parse(b"pb\x09\x09"), Err(too_new));
    }
}

//! Bytes in any portions become headers and whole bodies (PB-CON-*, PB-LIM-*).
//!
//! The read buffer becomes the body's buffer, without a copy. It grows with the bytes that arrive, never by a declared
//! length.

use alloc::vec::Vec;

use crate::error::{ProtocolError, truncated_header};
use crate::header::Header;
use crate::limits::Limits;
use crate::wire::{HEADER_LENGTH, Version};

/// Collects the bytes of one packet.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// The header of the packet whose body is being collected; its bytes have left the buffer.
    header: Option<Header>,
}

impl Decoder {
    /// Returns the buffer to append to, with capacity for the next read.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        let held = self.buffer.len();
        let room = match self.header {
            None => READ,
            // One byte more than the body shows without another read whether bytes follow.
            Some(header) => (header.length as usize + 1).saturating_sub(held).min(held.max(READ)),
        };
        if self.buffer.capacity() - held < room.min(READ) {
            self.buffer.reserve_exact(room);
        }
        &mut self.buffer
    }

    /// Takes the next packet out of the bytes, if it is complete. `check` judges the header before any of the body is
    /// processed.
    pub(crate) fn next(
        &mut self,
        check: impl FnOnce(&Header) -> Result<(), ProtocolError>,
    ) -> Result<Option<(Header, Vec<u8>)>, ProtocolError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = Header::parse(&self.buffer)? else { return Ok(None) };
                check(&header)?;
                self.buffer.drain(..HEADER_LENGTH);
                self.header = Some(header);
                header
            }
        };
        if self.buffer.len() < header.length as usize {
            return Ok(None);
        }
        self.header = None;
        let rest = self.buffer.split_off(header.length as usize);
        Ok(Some((header, core::mem::replace(&mut self.buffer, rest))))
    }

    /// Returns the version of the packet that is arriving, as soon as it is known.
    pub(crate) fn version(&self) -> Option<Version> {
        match (self.header, self.buffer.as_slice()) {
            (Some(header), _) => Some(header.version),
            (None, &[b'p', b'b', major, minor, ..]) => Version::from_bytes([major, minor]),
            _ => None,
        }
    }

    /// Checks the end of the input: it is an error inside a packet, and none between packets.
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        match (self.header, self.buffer.len()) {
            (None, 0) => Ok(()),
            (None, received) => Err(truncated_header(received)),
            (Some(header), received) => {
                Err(ProtocolError::Truncated { received, expected: header.length as usize, part: "body" })
            }
        }
    }

    /// Whether there is no byte of an incomplete packet, nor any behind a packet.
    pub(crate) fn is_empty(&self) -> bool {
        self.header.is_none() && self.buffer.is_empty()
    }

    /// Whether the header of the packet that is arriving is complete.
    pub(crate) fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// Returns the bytes of memory held.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes the bytes behind the last packet.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.buffer)
    }

    /// Drops all bytes and their memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Checks the declared length of a body, for both roles.
pub(crate) fn check_length(header: &Header, limits: &Limits) -> Result<(), ProtocolError> {
    let limit = limits.max_body();
    if header.length > limit {
        return Err(ProtocolError::TooLarge { length: header.length, limit });
    }
    Ok(())
}

/// The capacity for one read of a small packet.
const READ: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Status;

    #[test]
    fn memory_follows_what_arrived_not_what_was_announced() {
        let mut decoder = Decoder::default();
        let header = Header::classic(Version::V1_1, Status::REQUEST, u32::MAX).encode();
        decoder.buffer().extend_from_slice(&header);
        assert!(decoder.next(|_| Ok(())).unwrap().is_none());
        for _ in 0..8 {
            decoder.buffer();
        }
        assert!(decoder.held() <= 2 * READ, "{} B held", decoder.held());

        let length = 10_000_000;
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&Header::classic(Version::V1_1, Status::REQUEST, length).encode());
        let mut arrived = 0;
        while arrived < length as usize {
            assert!(decoder.next(|_| Ok(())).unwrap().is_none());
            let buffer = decoder.buffer();
            let part = (buffer.capacity() - buffer.len()).min(length as usize - arrived);
            buffer.resize(buffer.len() + part, b' ');
            arrived += part;
            assert!(decoder.held() <= 2 * arrived + 2 * READ, "{} B held for {arrived}", decoder.held());
        }
        let (_, body) = decoder.next(|_| Ok(())).unwrap().unwrap();
        assert_eq!(body.len(), length as usize);
        assert!(body.capacity() <= length as usize + READ, "{} B held for {length}", body.capacity());
    }
}

//! One packet of a capture, split into its parts.

use procbridge_proto::{HEADER_LENGTH, Header, ProtocolError, Status, flag};

use crate::dissect::names;
use crate::dissect::position::Position;

/// The rest of a capture, which should begin with a packet.
#[derive(Debug)]
pub(crate) struct DissectedPacket<'a> {
    offset: usize,
    bytes: &'a [u8],
    header: Result<Option<Header>, ProtocolError>,
    position: Position,
}

impl<'a> DissectedPacket<'a> {
    pub(crate) fn new(offset: usize, bytes: &'a [u8], position: Position) -> Self {
        Self { offset, bytes, header: Header::parse(bytes), position }
    }

    /// Returns the offset of the packet in the capture.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Returns the header, `None` if it is incomplete.
    pub(crate) fn header(&self) -> &Result<Option<Header>, ProtocolError> {
        &self.header
    }

    /// Returns the position of the next packet.
    pub(crate) fn next_position(&self) -> Position {
        let Ok(Some(header)) = &self.header else { return self.position };
        match self.position {
            _ if header.status == Status::HELLO => Position::Session,
            Position::Start if names::opens_session(header) => Position::Offered,
            Position::Offered if self.has_id() => Position::Session,
            // The offer was not accepted, so the next packet belongs to another connection.
            Position::Offered => Position::Start,
            position => position,
        }
    }

    /// Whether the body begins with a call id.
    pub(crate) fn has_id(&self) -> bool {
        let Ok(Some(header)) = &self.header else { return false };
        let start = self.bytes.get(HEADER_LENGTH..HEADER_LENGTH + 4);
        match header.status {
            // The offer and its answer have none. A late HELLO of the other side has the id 0.
            Status::REQUEST if names::opens_session(header) => false,
            Status::HELLO => start == Some(&[0; 4]),
            // A classic answer may follow an offer too. JSON has no zero byte, but nearly every id has one.
            _ if self.position == Position::Offered => {
                header.status.0 > Status::HELLO.0 || start.is_some_and(|start| start.contains(&0))
            }
            _ => self.position == Position::Session,
        }
    }

    /// Returns the call id, if the packet has one.
    pub(crate) fn id(&self) -> Option<u32> {
        let id = self.whole_body().first_chunk().filter(|_| self.has_id());
        id.map(|id| u32::from_le_bytes(*id))
    }

    pub(crate) fn id_length(&self) -> usize {
        if self.id().is_some() { ID_LENGTH as usize } else { 0 }
    }

    /// Returns the received part of the body, without the id.
    pub(crate) fn body(&self) -> &[u8] {
        self.whole_body().get(self.id_length()..).unwrap_or_default()
    }

    /// Returns the received part of the body, with the id.
    pub(crate) fn whole_body(&self) -> &[u8] {
        let Ok(Some(header)) = &self.header else { return &[] };
        let body = self.bytes.get(HEADER_LENGTH..).unwrap_or_default();
        body.get(..header.length as usize).unwrap_or(body)
    }

    /// Whether the body is a whole JSON text: not compressed, not one of several pieces, not of an unknown kind.
    ///
    /// The last piece looks like a whole body. It counts as one if it begins like JSON.
    pub(crate) fn is_json(&self) -> bool {
        let Ok(Some(header)) = &self.header else { return false };
        if !self.has_id() {
            return true;
        }
        let is_known = header.status.0 <= Status::GOODBYE.0;
        is_known
            && !names::is_compressed(header)
            && header.flags & flag::MORE == 0
            && self.body().first() == Some(&b'{')
    }
}

/// The length of the call id before every body of a session.
pub(crate) const ID_LENGTH: u32 = 4;

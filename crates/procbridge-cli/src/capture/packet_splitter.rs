//! Splits the bytes of one direction into packets, without checking them.

use procbridge_proto::{HEADER_LENGTH, Header};

/// Splits bytes into packets.
#[derive(Debug, Default)]
pub(crate) struct PacketSplitter {
    /// The start of the current packet: its header, and the kept part of its body.
    start: Vec<u8>,
    /// The bytes of the current packet so far.
    received: usize,
    packets: usize,
    /// Whether the bytes are no packets, which holds to the end of the connection.
    is_foreign: bool,
}

/// A packet, or bytes that are none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Captured {
    Packet(Packet),
    /// The number of bytes that are no packet, and the first of them.
    Foreign(usize, Vec<u8>),
}

/// A packet with the kept start of its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    /// The call id, which the first packet of a connection lacks.
    pub(crate) id: Option<u32>,
    pub(crate) body: Vec<u8>,
    /// The length of the whole body, without the id.
    pub(crate) length: usize,
}

impl PacketSplitter {
    /// Takes `bytes`. Returns the packets that they complete.
    pub(crate) fn split(&mut self, mut bytes: &[u8]) -> Vec<Captured> {
        let mut captured = Vec::new();
        while !bytes.is_empty() {
            if self.is_foreign {
                captured.push(foreign(bytes.len(), bytes));
                return captured;
            }
            let missing = HEADER_LENGTH.saturating_sub(self.start.len());
            let (header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.start.extend_from_slice(header);
            self.received += header.len();
            bytes = rest;
            let header = match Header::parse(&self.start) {
                Ok(Some(header)) => header,
                Ok(None) => return captured,
                Err(_) => {
                    self.is_foreign = true;
                    let start = [&std::mem::take(&mut self.start), bytes].concat();
                    captured.push(foreign(start.len(), &start));
                    return captured;
                }
            };
            let whole = HEADER_LENGTH + header.length as usize;
            let (body, rest) = bytes.split_at((whole - self.received).min(bytes.len()));
            let space = (HEADER_LENGTH + MAX_KEPT).saturating_sub(self.start.len());
            self.start.extend_from_slice(body.get(..space).unwrap_or(body));
            self.received += body.len();
            bytes = rest;
            if self.received == whole {
                captured.push(Captured::Packet(self.finish(header)));
            }
        }
        captured
    }

    /// Returns the number of bytes of an incomplete packet.
    pub(crate) fn unfinished(&self) -> usize {
        if self.is_foreign { 0 } else { self.received }
    }

    fn finish(&mut self, header: Header) -> Packet {
        let start = std::mem::take(&mut self.start);
        let body = start.get(HEADER_LENGTH..).unwrap_or_default();
        // The first packet of a connection is classic, even if a session follows.
        let id = body.first_chunk().filter(|_| self.packets > 0).map(|id| u32::from_le_bytes(*id));
        let skipped = if id.is_some() { 4 } else { 0 };
        self.packets += 1;
        self.received = 0;
        let body = body.get(skipped..).unwrap_or_default().to_vec();
        Packet { header, id, body, length: header.length as usize - skipped }
    }
}

fn foreign(length: usize, bytes: &[u8]) -> Captured {
    Captured::Foreign(length, bytes.get(..MAX_KEPT).unwrap_or(bytes).to_vec())
}

/// The number of bytes that are kept of a body. A HELLO is shorter.
const MAX_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use procbridge_proto::{Status, Version};

    use super::*;

    fn packet(status: Status, body: &[u8]) -> Vec<u8> {
        let header = Header::classic(Version::V1_1, status, u32::try_from(body.len()).unwrap());
        [&header.encode()[..], body].concat()
    }

    #[test]
    fn any_split_gives_the_same_packets() {
        let long = [&[5, 0, 0, 0][..], &[b'x'; 10_000]].concat();
        let bytes = [
            packet(Status::REQUEST, b"{}"),
            packet(Status::CANCEL, b"\x01\0\0\0"),
            packet(Status::ITEM, &long),
            packet(Status::PING, b""),
        ]
        .concat();
        for size in [1, 2, 7, 11, 12, 4096, bytes.len()] {
            let mut splitter = PacketSplitter::default();
            let passed: Vec<_> = bytes.chunks(size).flat_map(|piece| splitter.split(piece)).collect();
            let found: Vec<_> = passed
                .iter()
                .map(|passed| match passed {
                    Captured::Packet(packet) => (packet.header.status.0, packet.id, packet.length),
                    Captured::Foreign(..) => panic!("{passed:?}"),
                })
                .collect();
            assert_eq!(found, [(0, None, 2), (6, Some(1), 0), (4, Some(5), 10_000), (7, None, 0)], "{size}");
            assert_eq!(splitter.unfinished(), 0);
        }
    }

    #[test]
    fn what_is_no_packet_is_told_as_it_comes() {
        let mut splitter = PacketSplitter::default();
        assert_eq!(splitter.split(b"p"), []);
        assert_eq!(splitter.unfinished(), 1);
        assert_eq!(splitter.split(b"ng"), [Captured::Foreign(3, b"png".to_vec())]);
        assert_eq!(splitter.split(b"more"), [Captured::Foreign(4, b"more".to_vec())]);
        assert_eq!(splitter.unfinished(), 0);
    }
}

//! Bytes in any portions become the packets of a session (PB-PKT-*).
//!
//! Everything is read into one buffer, a block at a time. One read may bring many small packets. They are taken one
//! after the other, and the remaining bytes move once. A small body is copied out of the buffer. The bytes of a larger
//! one are appended to its body at once, which grows with the bytes that arrive, never by a declared length. A further
//! piece is appended to those before it, so nothing is joined afterwards.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use crate::body::Body;
use crate::error::{ProtocolError, truncated_header};
use crate::header::Header;
use crate::packet::{FRONT, HEADROOM};
use crate::wire::{HEADER_LENGTH, Status, Version};

/// Collects the bytes of a session's packets.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    /// The number of bytes that have been taken from the buffer.
    at: usize,
    large: Option<Box<Large>>,
    /// The remaining length of a skipped packet, and its declared length.
    skip: Option<(u32, u32)>,
    /// Whether the last read filled the buffer, so that more has probably arrived.
    filled: bool,
}

/// The header of a session packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Status,
    pub(crate) flags: u8,
    pub(crate) options: u8,
    pub(crate) id: u32,
    /// The length of the content, without the call id.
    pub(crate) length: u32,
}

/// The decision on a packet by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Skip,
}

/// The next part of the input.
#[derive(Debug)]
pub(crate) enum Next {
    /// Bytes are missing.
    Nothing,
    /// A header, which comes once: [take](Frames::take) or [skip](Frames::skip) its packet.
    Header(Frame),
    /// The rest of a packet that was taken.
    Packet(Frame, Content),
}

/// The content of a packet, behind that of the pieces before it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) body: Body,
    /// Where the packet's own content begins.
    base: usize,
}

/// An incomplete packet.
#[derive(Debug)]
struct Large {
    frame: Frame,
    content: Content,
}

impl Content {
    /// Returns the length of the packet's own content.
    pub(crate) fn len(&self) -> usize {
        self.body.len() - self.base
    }

    /// Takes the content of a packet that has no other pieces.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.body.into_bytes()
    }
}

impl Frames {
    /// Begins behind the classic packet, with the bytes that came after it.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer, ..Self::default() }
    }

    /// Returns the buffer to append to, with capacity for the next read.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        let read = if self.filled || self.large.is_some() { NEXT_READ } else { FIRST_READ };
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        if self.buffer.capacity() - self.buffer.len() < read {
            self.buffer.reserve_exact(read);
        }
        &mut self.buffer
    }

    /// Puts a buffer back that was taken.
    pub(crate) fn put(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Makes `buffer` the read buffer, with the bytes that are not taken yet.
    pub(crate) fn lend(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(self.buffer.get(self.at..).unwrap_or_default());
        (self.buffer, self.at) = (buffer, 0);
    }

    /// Returns the buffer that was [lent](Self::lend). Keeps an incomplete packet in memory of its own.
    pub(crate) fn give_back(&mut self) -> Vec<u8> {
        let rest = self.buffer.get(self.at..).unwrap_or_default().to_vec();
        self.at = 0;
        mem::replace(&mut self.buffer, rest)
    }

    /// Notes that bytes were appended.
    pub(crate) fn appended(&mut self) {
        // A buffer without memory was not filled: nothing was appended.
        self.filled = !self.buffer.is_empty() && self.buffer.len() == self.buffer.capacity();
    }

    /// Looks for the next packet.
    pub(crate) fn next(&mut self, max_body: u32) -> Result<Next, ProtocolError> {
        if let Some((left, length)) = self.skip {
            let count = (left as usize).min(self.buffer.len() - self.at);
            self.at += count;
            // No more than `left`.
            self.skip = if count < left as usize { Some((left - count as u32, length)) } else { None };
        }
        if let Some(mut large) = self.large.take() {
            return Ok(match self.append(&large.frame, &mut large.content) {
                true => Next::Packet(large.frame, large.content),
                false => {
                    self.large = Some(large);
                    Next::Nothing
                }
            });
        }
        let input = self.buffer.get(self.at..).unwrap_or_default();
        let Some(frame) = read_frame(input, max_body)? else {
            self.clear_if_empty();
            return Ok(Next::Nothing);
        };
        let length = frame.length as usize;
        if length <= MIN_LARGE && input.len() - FRONT < length {
            return Ok(Next::Nothing);
        }
        self.at += FRONT;
        Ok(Next::Header(frame))
    }

    /// Takes the packet whose header was found, and appends it to `body`. Returns the content if it is complete.
    pub(crate) fn take(&mut self, frame: Frame, body: Body) -> Option<Content> {
        let base = body.len();
        let mut content = Content { body, base };
        if self.append(&frame, &mut content) {
            return Some(content);
        }
        self.large = Some(Box::new(Large { frame, content }));
        None
    }

    /// Drops the packet whose header was found.
    pub(crate) fn skip(&mut self, frame: &Frame) {
        self.skip = Some((frame.length, frame.length));
    }

    /// Appends the arrived bytes of a packet to `content`. Returns whether the packet is complete.
    fn append(&mut self, frame: &Frame, content: &mut Content) -> bool {
        let rest = (frame.length as usize).saturating_sub(content.len());
        let input = self.buffer.get(self.at..).unwrap_or_default();
        let part = input.get(..rest).unwrap_or(input);
        content.body.push(part);
        self.at += part.len();
        let is_all = part.len() == rest;
        if !is_all {
            self.clear_if_empty();
        }
        is_all
    }

    fn clear_if_empty(&mut self) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// Returns the header of a large packet that is arriving, and the bytes of its content so far.
    pub(crate) fn arriving(&self) -> Option<(Frame, usize)> {
        self.large.as_ref().map(|large| (large.frame, large.content.len()))
    }

    /// Drops the large packet that is arriving, and skips the rest of it.
    pub(crate) fn skip_arriving(&mut self) {
        if let Some(large) = self.large.take() {
            let length = large.frame.length;
            // The packet is incomplete, so the content is shorter than its length.
            self.skip = Some((length.saturating_sub(large.content.len() as u32), length));
        }
    }

    /// Checks the end of the input: it is an error inside a packet, and none between packets.
    pub(crate) fn end(&self) -> Result<(), ProtocolError> {
        let inside = |received: usize, content: u32| {
            let expected = HEADROOM + content as usize;
            Err(ProtocolError::Truncated { received, expected, part: "body" })
        };
        if let Some(large) = &self.large {
            return inside(HEADROOM + large.content.len(), large.frame.length);
        }
        if let Some((left, length)) = self.skip {
            return inside(HEADROOM + (length - left) as usize, length);
        }
        let input = self.buffer.get(self.at..).unwrap_or_default();
        match Header::parse(input) {
            _ if input.is_empty() => Ok(()),
            Ok(Some(header)) => inside(input.len() - HEADER_LENGTH, header.length.saturating_sub(4)),
            _ => Err(truncated_header(input.len())),
        }
    }

    /// Whether a packet has begun to arrive and is incomplete.
    pub(crate) fn is_inside(&self) -> bool {
        self.large.is_some() || self.skip.is_some() || self.buffer.len() > self.at
    }

    /// Whether the header of the packet that is arriving is complete.
    pub(crate) fn has_header(&self) -> bool {
        self.large.is_some() || self.skip.is_some() || self.buffer.len() - self.at >= HEADER_LENGTH
    }

    /// Returns the bytes of memory held.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity() + self.large.as_ref().map_or(0, |large| large.content.body.held())
    }

    /// Drops all bytes and their memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Reads header and call id at the front of `input`. Makes each check as soon as its bytes have arrived.
fn read_frame(input: &[u8], max_body: u32) -> Result<Option<Frame>, ProtocolError> {
    let version = |found| ProtocolError::UnsupportedVersion { found, expected: Some(Version::V1_1) };
    let header = Header::parse(input).map_err(|error| match error {
        ProtocolError::UnsupportedVersion { found, .. } => version(found),
        error => error,
    })?;
    if let &[_, _, 0x01, 0x00, ..] = input {
        return Err(version([0x01, 0x00]));
    }
    let Some(Header { status: kind, flags, options, length, .. }) = header else { return Ok(None) };
    let Some(length) = length.checked_sub(HEADROOM as u32) else {
        return Err(ProtocolError::TruncatedId { length });
    };
    if length > max_body {
        return Err(ProtocolError::TooLarge { length, limit: max_body });
    }
    let id = input.get(HEADER_LENGTH..).and_then(|rest| rest.first_chunk());
    Ok(id.map(|id| Frame { kind, flags, options, id: u32::from_le_bytes(*id), length }))
}

/// The capacity for one read of an idle session.
const FIRST_READ: usize = 4 * 1024;

/// The capacity for one read while much arrives: a piece and some bytes behind it. An allocator serves this size fast.
const NEXT_READ: usize = 96 * 1024;

/// A packet with more content than this is taken while it arrives.
const MIN_LARGE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).unwrap();
        let header = Header::classic(Version::V1_1, Status::GOOD, length).encode();
        [&header, &id.to_le_bytes()[..], content].concat()
    }

    /// Returns the next packet that is taken.
    fn next(frames: &mut Frames, verdict: impl Fn(&Frame) -> Verdict) -> Option<(Frame, Vec<u8>)> {
        loop {
            return match frames.next(1 << 24).unwrap() {
                Next::Nothing => None,
                Next::Packet(frame, content) => Some((frame, content.into_bytes())),
                Next::Header(frame) if verdict(&frame) == Verdict::Skip => {
                    frames.skip(&frame);
                    continue;
                }
                Next::Header(frame) => match frames.take(frame, Body::default()) {
                    Some(content) => Some((frame, content.into_bytes())),
                    None => continue,
                },
            };
        }
    }

    #[test]
    fn any_packets_in_any_portions_come_out_whole() {
        let sizes = [0, 1, 4095, 4096, 4097, 100, 70_000, 2, 65_536, 9000, 0];
        let packets: Vec<_> = sizes.iter().map(|&size| std::vec![b'x'; size]).collect();
        let bytes: Vec<_> = packets.iter().zip(1..).flat_map(|(content, id)| packet(id, content)).collect();
        for portion in [1, 2, 14, 15, 16, 1000, 4096, 5000, 65_536, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for portion in bytes.chunks(portion) {
                frames.buffer().extend_from_slice(portion);
                frames.appended();
                while let Some((frame, content)) = next(&mut frames, |_| Verdict::Take) {
                    assert_eq!(frame.id as usize, seen.len() + 1);
                    seen.push(content);
                }
            }
            assert_eq!(seen, packets, "in portions of {portion}");
            assert_eq!(frames.end(), Ok(()));
        }
    }

    #[test]
    fn what_is_skipped_is_not_held() {
        let mut frames = Frames::default();
        let bytes = [packet(1, &std::vec![b'x'; 1 << 20]), packet(2, b"{}")].concat();
        for portion in bytes.chunks(4096) {
            frames.buffer().extend_from_slice(portion);
            frames.appended();
            let verdict = |frame: &Frame| if frame.id == 1 { Verdict::Skip } else { Verdict::Take };
            if let Some((frame, content)) = next(&mut frames, verdict) {
                assert_eq!((frame.id, &content[..]), (2, &b"{}"[..]));
            }
            assert!(frames.held() <= 2 * NEXT_READ, "{} B held", frames.held());
        }
        assert_eq!(frames.end(), Ok(()));
    }

    #[test]
    fn a_piece_goes_behind_those_before_it() {
        let mut frames = Frames::default();
        let bytes = packet(1, b"cd");
        let mut body = b"ab".to_vec();
        for byte in bytes {
            frames.buffer().push(byte);
            frames.appended();
            if let Next::Header(frame) = frames.next(100).unwrap() {
                let content = frames.take(frame, mem::take(&mut body).into()).unwrap();
                assert_eq!((content.len(), content.into_bytes()), (2, b"abcd".to_vec()));
            }
        }
        assert!(body.is_empty());
    }

    #[test]
    fn memory_follows_what_arrived() {
        let mut frames = Frames::default();
        let bytes = packet(1, &std::vec![b'x'; 10_000_000]);
        let mut arrived = 0;
        while arrived < bytes.len() {
            let buffer = frames.buffer();
            let room = (buffer.capacity() - buffer.len()).min(bytes.len() - arrived);
            buffer.extend_from_slice(&bytes[arrived..arrived + room]);
            frames.appended();
            arrived += room;
            let next = next(&mut frames, |_| Verdict::Take);
            assert_eq!(next.is_some(), arrived == bytes.len());
            assert!(
                frames.held() <= 2 * arrived + NEXT_READ + FIRST_READ,
                "{} B for {arrived}",
                frames.held()
            );
        }
        assert!(frames.held() <= NEXT_READ + FIRST_READ);
    }
}

//! Bytes in any portions become the packets of a session (PB-PKT-*).
//!
//! Everything is read into one buffer, a block at a time. Many small packets come with one read: they are passed over one
//! after the other, and the bytes that remain move once. A small body is copied out of the buffer. What there is of a
//! larger one goes to the end of its body at once, which grows with what has arrived, never by what a header announces.
//! A further piece goes to the end of those before it, so that nothing is put together afterwards.

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
    /// How far the buffer has been taken.
    at: usize,
    large: Option<Box<Large>>,
    /// What remains of a packet that nobody wants, and the length that it announced.
    skip: Option<(u32, u32)>,
    /// The last read filled the room it had, so the peer has more to say.
    filled: bool,
}

/// The header of a session packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Status,
    pub(crate) flags: u8,
    pub(crate) options: u8,
    pub(crate) id: u32,
    /// Length of the content, which does not count the call id.
    pub(crate) length: u32,
}

/// What is to become of a packet whose header is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Skip,
}

/// What is found next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Bytes are missing.
    Nothing,
    /// A header, once: it is to be [taken](Frames::take) or [skipped](Frames::skip).
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

/// A packet that is not whole.
#[derive(Debug)]
struct Large {
    frame: Frame,
    content: Content,
}

impl Content {
    /// Length of the packet's own content.
    pub(crate) fn len(&self) -> usize {
        self.body.len() - self.base
    }

    /// Takes the content of a packet that has no other pieces.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.body.into_bytes()
    }
}

impl Frames {
    /// Goes on behind the first packet, with the bytes that came after it.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer, ..Self::default() }
    }

    /// The buffer to append to, with room for the next read.
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

    /// Puts a buffer back that was taken away.
    pub(crate) fn put(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Has what arrives go to `room`, behind what is here.
    pub(crate) fn lend(&mut self, mut room: Vec<u8>) {
        room.clear();
        room.extend_from_slice(self.buffer.get(self.at..).unwrap_or_default());
        (self.buffer, self.at) = (room, 0);
    }

    /// Gives back what was [lent](Self::lend). What is not whole is kept, in memory of its own.
    pub(crate) fn give_back(&mut self) -> Vec<u8> {
        let rest = self.buffer.get(self.at..).unwrap_or_default().to_vec();
        self.at = 0;
        mem::replace(&mut self.buffer, rest)
    }

    /// Takes note that something was appended.
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

    /// Takes the packet whose header was found, to the end of `body`: the content, if all of it is there.
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

    /// Adds what is there of a packet to `content`, and tells whether that is all.
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

    /// The header of a large packet that is arriving, and how much of its content is held.
    pub(crate) fn arriving(&self) -> Option<(Frame, usize)> {
        self.large.as_ref().map(|large| (large.frame, large.content.len()))
    }

    /// Drops that packet, what is there and what is to come.
    pub(crate) fn skip_arriving(&mut self) {
        if let Some(large) = self.large.take() {
            let length = large.frame.length;
            // It is not whole, so less than its length.
            self.skip = Some((length.saturating_sub(large.content.len() as u32), length));
        }
    }

    /// What the end of the input means here: nothing between packets, an error inside one.
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

    /// Whether a packet has begun to arrive and is not whole.
    pub(crate) fn is_inside(&self) -> bool {
        self.large.is_some() || self.skip.is_some() || self.buffer.len() > self.at
    }

    /// Whether the header of the packet that is arriving is complete.
    pub(crate) fn has_header(&self) -> bool {
        self.large.is_some() || self.skip.is_some() || self.buffer.len() - self.at >= HEADER_LENGTH
    }

    /// Bytes of memory held.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity() + self.large.as_ref().map_or(0, |large| large.content.body.held())
    }

    /// Drops what is held and the memory for it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Reads header and call id at the front of `input`, making each check as soon as its bytes are there.
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

/// Room for one read of a quiet session.
const FIRST_READ: usize = 4 * 1024;

/// Room for one read while much arrives: a piece and what may be behind it, and little enough that an allocator has it at
/// hand.
const NEXT_READ: usize = 96 * 1024;

/// A packet with more content than this is taken as it arrives.
const MIN_LARGE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u32, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len() + 4).unwrap();
        let header = Header::classic(Version::V1_1, Status::GOOD, length).encode();
        [&header, &id.to_le_bytes()[..], content].concat()
    }

    /// The next packet that is taken.
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

//! The bytes of a body as they arrive. A large body is kept in several parts. Moving all of it each time that it grows
//! would take longer than all other work on the packet.

use alloc::vec::Vec;

/// The part of a body that has arrived. Its memory grows with the bytes that arrive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// The full parts, in order.
    full: Vec<Vec<u8>>,
    full_length: usize,
    last: Vec<u8>,
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        self.full_length + self.last.len()
    }

    /// Returns the bytes of memory held.
    pub(crate) fn held(&self) -> usize {
        // A full part has no spare capacity.
        self.full_length + self.last.capacity()
    }

    /// Appends bytes.
    pub(crate) fn push(&mut self, part: &[u8]) {
        if self.last.capacity() == 0 {
            // Memory of exactly that size: most bodies are complete now.
            self.last = part.to_vec();
            return;
        }
        let room = self.last.capacity() - self.last.len();
        if part.len() <= room || self.last.len() < PART {
            return self.last.extend_from_slice(part);
        }
        let (front, back) = part.split_at(room);
        self.last.extend_from_slice(front);
        let next = Vec::with_capacity(back.len().max(PART));
        let full = core::mem::replace(&mut self.last, next);
        self.full_length += full.len();
        self.full.push(full);
        self.last.extend_from_slice(back);
    }

    /// Returns the bytes, if they are all in one part.
    pub(crate) fn as_part(&self) -> Option<&[u8]> {
        if self.full.is_empty() { Some(&self.last) } else { None }
    }

    /// Returns the front of the bytes, as far as it is in one part.
    pub(crate) fn front(&self) -> &[u8] {
        self.full.first().unwrap_or(&self.last)
    }

    /// Returns the bytes in one part of about their size, as it may be kept for long. Joining the parts takes time.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let length = self.len();
        let mut bytes = self.last;
        if !self.full.is_empty() {
            let last = core::mem::replace(&mut bytes, Vec::with_capacity(length));
            for part in self.full {
                bytes.extend_from_slice(&part);
            }
            bytes.extend_from_slice(&last);
        }
        if bytes.capacity() / 2 > length + SLACK {
            bytes.shrink_to_fit();
        }
        bytes
    }

    /// Returns the body in memory of about its size, and its old memory if that was much larger. A large body is not
    /// moved.
    pub(crate) fn fitting(self) -> (Self, Vec<u8>) {
        let is_small = self.full.is_empty() && self.last.len() <= PART;
        if !is_small || self.last.capacity() / 2 <= self.last.len() + SLACK {
            return (self, Vec::new());
        }
        (Self { last: self.last.as_slice().to_vec(), ..Self::default() }, self.last)
    }

    fn bytes(&self) -> impl Iterator<Item = &u8> {
        self.full.iter().flatten().chain(&self.last)
    }
}

impl From<Vec<u8>> for Body {
    fn from(last: Vec<u8>) -> Self {
        Self { last, ..Self::default() }
    }
}

/// Two bodies with the same bytes are equal, however they are split into parts.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.bytes().eq(other.bytes())
    }
}

impl Eq for Body {}

/// A part of this size is not moved again.
const PART: usize = 2 * 1024 * 1024;

/// Unused capacity that is not worth giving back.
const SLACK: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_however_it_came() {
        let bytes: Vec<u8> = (0..3 * PART + 5).map(|n| (n % 251) as u8).collect();
        let whole = Body::from(bytes.clone());
        for portion in [4096, 65_536, PART, 2 * PART, bytes.len()] {
            let mut body = Body::default();
            for portion in bytes.chunks(portion) {
                body.push(portion);
                assert!(body.held() <= 2 * body.len().max(PART), "{} B for {}", body.held(), body.len());
            }
            assert_eq!((&body, body.len()), (&whole, bytes.len()));
            assert!(body.into_bytes() == bytes, "in portions of {portion}");
        }
    }

    /// Each byte that is copied again delays all calls of a session.
    #[test]
    fn a_large_part_is_not_moved() {
        let mut body = Body::default();
        let mut places: Vec<*const u8> = Vec::new();
        for _ in 0..256 {
            body.push(&[b'x'; 64 * 1024]);
            for (place, part) in places.iter().zip(&body.full) {
                assert_eq!(*place, part.as_ptr());
            }
            places = body.full.iter().map(|part| part.as_ptr()).collect();
            assert!(body.last.capacity() <= 3 * PART, "{}", body.last.capacity());
        }
        assert!(places.len() >= 4, "{}", places.len());
    }

    #[test]
    fn a_small_body_leaves_large_memory() {
        let mut memory = Vec::with_capacity(16 << 20);
        memory.extend_from_slice(b"small");
        let (body, memory) = Body::from(memory).fitting();
        assert_eq!((body.held(), memory.capacity()), (5, 16 << 20));
        let (body, memory) = body.fitting();
        assert_eq!((body.held(), memory.capacity()), (5, 0));
    }
}

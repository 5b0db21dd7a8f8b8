//! A packet of a session, ready but for its header.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use crate::header::Header;
use crate::packet::{FRONT, HEADROOM};
use crate::wire::{HEADER_LENGTH, Status, Version};

/// A packet of a session, ready but for its header.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Status,
    pub(crate) flags: u8,
    pub(crate) options: u8,
    pub(crate) id: u32,
    /// Room for header and call id, then the content.
    pub(crate) buffer: Vec<u8>,
}

impl Draft {
    /// Header and call id of a packet or piece with so much content.
    pub(super) fn front(&self, content: usize, more: u8) -> [u8; FRONT] {
        front(self.kind, self.flags | more, self.options, self.id, content)
    }
}

/// Header and call id in front of so much content.
pub(super) fn front(status: Status, flags: u8, options: u8, id: u32, content: usize) -> [u8; FRONT] {
    // The content of a piece fits by far, and that of a small packet is no longer than a piece.
    let length = u32::try_from(HEADROOM + content).unwrap_or(u32::MAX);
    let header = Header { version: Version::V1_1, status, flags, options, length };
    let mut front = [0; FRONT];
    let (header_place, id_place) = front.split_at_mut(HEADER_LENGTH);
    header_place.copy_from_slice(&header.encode());
    id_place.copy_from_slice(&id.to_le_bytes());
    front
}

/// Some ids in order, each once. A heap does it in little code, where the sort of slices is large.
pub(crate) fn ascending(ids: Vec<u32>) -> Vec<u32> {
    let mut ids = BinaryHeap::from(ids).into_sorted_vec();
    ids.dedup();
    ids
}

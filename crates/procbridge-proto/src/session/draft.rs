//! A packet of a session without its header.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use crate::header::Header;
use crate::packet::{FRONT, HEADROOM};
use crate::wire::{HEADER_LENGTH, Status, Version};

/// A packet of a session without its header.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Status,
    pub(crate) flags: u8,
    pub(crate) options: u8,
    pub(crate) id: u32,
    /// Free bytes for header and call id, then the content.
    pub(crate) buffer: Vec<u8>,
}

impl Draft {
    /// Returns header and call id of a packet or piece with `content` bytes.
    pub(super) fn front(&self, content: usize, more: u8) -> [u8; FRONT] {
        front(self.kind, self.flags | more, self.options, self.id, content)
    }
}

/// Returns header and call id in front of `content` bytes.
pub(super) fn front(status: Status, flags: u8, options: u8, id: u32, content: usize) -> [u8; FRONT] {
    // The content of a piece fits by far. A small packet is no longer than a piece.
    let length = u32::try_from(HEADROOM + content).unwrap_or(u32::MAX);
    let header = Header { version: Version::V1_1, status, flags, options, length };
    let mut front = [0; FRONT];
    let (header_place, id_place) = front.split_at_mut(HEADER_LENGTH);
    header_place.copy_from_slice(&header.encode());
    id_place.copy_from_slice(&id.to_le_bytes());
    front
}

/// Returns the ids in order, each once. A heap takes less code than the sort of slices.
pub(crate) fn ascending(ids: Vec<u32>) -> Vec<u32> {
    let mut ids = BinaryHeap::from(ids).into_sorted_vec();
    ids.dedup();
    ids
}

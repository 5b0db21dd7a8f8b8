//! The queue of packets to be written, in order (PB-CON-*, PB-PCE-*).
//!
//! Small packets follow each other in one buffer, so that one write carries many. A large body stays in its own buffer
//! and goes in pieces. The header of each piece overwrites the bytes in front of it, which have been written, so
//! nothing is copied. Large bodies take turns, and queued small packets go between the pieces. Only packets of a call
//! with a queued large body wait behind it.
//!
//! Requests must go in the order of their ids. A large one that cannot begin at once is led by an empty piece in the
//! buffer. So the requests after it do not wait for it.

mod withdraw;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use crate::header::Header;
use crate::packet::{FRONT, HEADROOM};
use crate::session::draft::{Draft, front};
use crate::wire::{Status, Version, flag};

/// The packets to be written.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    small: Vec<u8>,
    /// The number of bytes written of the buffer, and how far it may be written before another packet has its turn.
    at: usize,
    until: usize,
    /// The end of the small packets that go before the next piece.
    turn: usize,
    /// The number of bytes that have left the buffer. Positions count from the first byte ever.
    base: u64,
    /// The requests in the buffer of which nothing has been written.
    requests: VecDeque<Span>,
    written: u64,
    /// The rare state. A session that sends only small packets has no memory for it.
    rare: Option<Box<Rare>>,
}

/// Large bodies, and holes among the small packets.
#[derive(Debug, Default)]
struct Rare {
    /// The requests in the buffer that were withdrawn.
    holes: VecDeque<Span>,
    hole_bytes: usize,
    large: VecDeque<Large>,
    /// The piece of the first large body that is being written.
    piece: Option<Piece>,
    /// The buffer of the last large body that was written. Large bodies often answer each other. Reusing the memory
    /// avoids an allocation, which takes longer than copying the body.
    spare: Vec<u8>,
    /// The memory of large bodies for the program to free, which may take long.
    waste: Vec<Vec<u8>>,
}

/// The result of withdrawing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// Nothing of the request was written, and nothing will be.
    Whole,
    /// A part of the request was written, and no further piece will be.
    Rest,
    /// All of the request was written.
    Nothing,
}

#[derive(Debug)]
struct Span {
    id: u32,
    start: u64,
    end: u64,
}

#[derive(Debug)]
struct Large {
    draft: Draft,
    /// Where the next piece begins.
    next: usize,
    /// Whether an empty piece in the buffer leads it.
    led: bool,
    /// The position in the buffer that its first piece must follow: behind its lead, and earlier packets of its call.
    after: u64,
    behind: Vec<Draft>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    at: usize,
    end: usize,
}

impl SendQueue {
    /// Queues HELLO as the last packet in classic framing. Its JSON begins where that of a session packet does.
    pub(crate) fn push_hello(&mut self, mut buffer: Vec<u8>, options: u8) {
        let length = u32::try_from(buffer.len().saturating_sub(FRONT)).unwrap_or(u32::MAX);
        let header =
            Header { flags: flag::SESSION, options, ..Header::classic(Version::V1_1, Status::HELLO, length) };
        if let Some(place) = buffer.get_mut(HEADROOM..FRONT) {
            place.copy_from_slice(&header.encode());
        }
        self.push_bytes(buffer.get(HEADROOM..).unwrap_or_default());
    }

    /// Queues bytes as they are.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.append(bytes.to_vec());
            self.prepare();
        }
    }

    /// Queues a session packet.
    pub(crate) fn push(&mut self, draft: Draft) {
        self.enqueue(draft);
        self.prepare();
    }

    /// Queues a copy of a request that is small.
    pub(crate) fn push_request(&mut self, id: u32, flags: u8, content: &[u8]) {
        self.note_request(id, FRONT + content.len());
        self.small.reserve(FRONT + content.len());
        self.small.extend_from_slice(&front(Status::REQUEST, flags, 0, id, content.len()));
        self.small.extend_from_slice(content);
        self.prepare();
    }

    fn enqueue(&mut self, mut draft: Draft) {
        let large = self.rare.iter_mut().flat_map(|rare| &mut rare.large);
        if let Some(large) = large.into_iter().find(|large| large.draft.id == draft.id) {
            large.behind.push(draft);
        } else if draft.buffer.len() > FRONT + PIECE {
            let is_next = self.large().next().is_none() && self.at == self.small.len();
            let led = draft.kind == Status::REQUEST && !is_next;
            if led {
                // An empty piece.
                self.note_request(draft.id, FRONT);
                self.append(draft.front(0, flag::MORE).to_vec());
            }
            let after = self.end_position();
            let large = Large { draft, next: FRONT, led, after, behind: Vec::new() };
            self.rare.get_or_insert_default().large.push_back(large);
        } else {
            let content = draft.buffer.len().saturating_sub(FRONT);
            let front = draft.front(content, 0);
            if let Some(place) = draft.buffer.first_chunk_mut() {
                *place = front;
            }
            if draft.kind == Status::REQUEST {
                self.note_request(draft.id, draft.buffer.len());
            }
            self.append(draft.buffer);
        }
    }

    /// Notes that a request of `length` bytes goes to the end of the buffer.
    fn note_request(&mut self, id: u32, length: usize) {
        let start = self.end_position();
        self.requests.push_back(Span { id, start, end: start.saturating_add(length as u64) });
    }

    fn append(&mut self, buffer: Vec<u8>) {
        if self.small.capacity() == 0 {
            self.small = buffer;
        } else {
            self.small.extend_from_slice(&buffer);
        }
    }

    /// Returns the next bytes to be written.
    pub(crate) fn transmit(&self) -> &[u8] {
        match self.rare.as_ref().and_then(|rare| Some((rare.piece?, rare.large.front()?))) {
            Some((piece, large)) => large.draft.buffer.get(piece.at..piece.end).unwrap_or_default(),
            None => self.small.get(self.at..self.until).unwrap_or_default(),
        }
    }

    /// Notes that `count` bytes were written.
    pub(crate) fn transmitted(&mut self, count: usize) {
        let count = count.min(self.transmit().len());
        self.written = self.written.saturating_add(count as u64);
        match self.rare.as_mut().and_then(|rare| rare.piece.as_mut()) {
            Some(piece) if count > 0 => {
                piece.at += count;
                if piece.at == piece.end {
                    self.end_piece();
                }
            }
            Some(_) => {}
            None => self.at += count,
        }
        let here = self.position();
        while self.requests.front().is_some_and(|request| request.start < here) {
            self.requests.pop_front();
        }
        self.prepare();
    }

    /// Drops the large bodies and the packets behind them. A piece that is partly written is kept.
    pub(crate) fn drop_large(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        match (rare.piece, rare.large.front_mut()) {
            (Some(piece), Some(first)) if piece.at > piece_start(first.next) => {
                first.draft.buffer.truncate(piece.end);
                first.behind.clear();
                rare.large.truncate(1);
            }
            _ => {
                rare.piece = None;
                rare.large.clear();
            }
        }
        self.prepare();
    }

    /// Returns the number of queued bytes.
    pub(crate) fn queued(&self) -> usize {
        let small = self.small.len() - self.at;
        let Some(rare) = &self.rare else { return small };
        let mut large = rare.large.iter().map(Large::queued).sum::<usize>();
        if let (Some(piece), Some(first)) = (rare.piece, rare.large.front()) {
            large = large.saturating_sub(piece.at - piece_start(first.next));
        }
        small.saturating_sub(rare.hole_bytes) + large
    }

    /// Frees the memory of an empty buffer, and the rare state if it is empty.
    pub(crate) fn shrink(&mut self) {
        if self.small.is_empty() {
            self.small = Vec::new();
        }
        let is_idle = |rare: &Rare| {
            let has_memory = rare.spare.capacity() > 0 || !rare.waste.is_empty();
            rare.large.is_empty() && rare.holes.is_empty() && !has_memory
        };
        if self.rare.as_deref().is_some_and(is_idle) {
            self.rare = None;
        }
    }

    /// Returns an empty buffer: that of the last large body if it was kept.
    pub(crate) fn take_spare(&mut self) -> Vec<u8> {
        let mut spare = self.rare.as_mut().map(|rare| mem::take(&mut rare.spare)).unwrap_or_default();
        spare.clear();
        spare
    }

    /// Keeps memory for the next large body.
    pub(crate) fn put_spare(&mut self, buffer: Vec<u8>) {
        let rare = self.rare.get_or_insert_default();
        let spare = mem::replace(&mut rare.spare, buffer);
        rare.waste(spare);
    }

    /// Keeps no memory for the next large body.
    pub(crate) fn drop_spare(&mut self) {
        if let Some(rare) = &mut self.rare {
            let spare = mem::take(&mut rare.spare);
            rare.waste(spare);
        }
    }

    /// Takes the memory that is to be freed.
    pub(crate) fn take_waste(&mut self) -> Vec<Vec<u8>> {
        self.rare.as_mut().map(|rare| mem::take(&mut rare.waste)).unwrap_or_default()
    }

    /// Returns the bytes of memory that are not in use.
    pub(crate) fn spare(&self) -> usize {
        let small = if self.small.is_empty() { self.small.capacity() } else { 0 };
        self.rare.as_ref().map_or(0, |rare| rare.spare.capacity() + rare.wasted()) + small
    }

    /// Returns the number of bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the position of the buffer's end.
    fn end_position(&self) -> u64 {
        self.base.saturating_add(self.small.len() as u64)
    }

    fn position(&self) -> u64 {
        self.base.saturating_add(self.at as u64)
    }

    fn large(&self) -> impl Iterator<Item = &Large> {
        self.rare.iter().flat_map(|rare| &rare.large)
    }

    fn piece(&self) -> Option<Piece> {
        self.rare.as_ref()?.piece
    }

    /// Selects the next bytes to be written.
    fn prepare(&mut self) {
        if self.rare.is_some() {
            return self.prepare_rare();
        }
        self.forget_written();
        self.until = self.small.len();
    }

    /// Drops the written bytes of the buffer.
    fn forget_written(&mut self) {
        if self.at >= self.small.len() {
            self.base = self.base.saturating_add(self.small.len() as u64);
            // Many small packets will need their memory again. A single one brings its own.
            if (MIN_KEPT_CAPACITY..=MAX_KEPT_CAPACITY).contains(&self.small.capacity()) {
                self.small.clear();
            } else {
                self.small = Vec::new();
            }
            (self.at, self.until, self.turn) = (0, 0, 0);
        } else if self.at > MAX_KEPT_CAPACITY && self.at > self.small.len() / 2 {
            self.small.drain(..self.at);
            self.base = self.base.saturating_add(self.at as u64);
            self.turn = self.turn.saturating_sub(self.at);
            self.at = 0;
        }
    }

    fn prepare_rare(&mut self) {
        let here = self.position();
        let Some(rare) = &mut self.rare else { return };
        if rare.piece.is_some() {
            return;
        }
        let mut skipped = 0;
        while let Some(hole) = rare.holes.front().filter(|hole| hole.start == here + skipped as u64) {
            let length = hole.length();
            skipped += length;
            rare.hole_bytes -= length;
            rare.holes.pop_front();
        }
        self.at += skipped;
        self.forget_written();
        let Some(rare) = &self.rare else { return };
        if let Some(large) = rare.large.front() {
            let after = usize::try_from(large.after.saturating_sub(self.base)).unwrap_or(0);
            self.turn = self.turn.max(after).min(self.small.len());
            if self.at >= self.turn {
                self.begin_piece();
                return;
            }
        }
        let turn = if rare.large.is_empty() { self.small.len() } else { self.turn };
        let hole = rare.holes.front().map(|hole| hole.start.saturating_sub(self.base));
        let hole = hole.and_then(|hole| usize::try_from(hole).ok()).unwrap_or(usize::MAX);
        self.until = turn.min(hole);
    }

    fn begin_piece(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let Some(large) = rare.large.front_mut() else { return };
        let rest = large.draft.buffer.len() - large.next;
        let content = rest.min(PIECE);
        let more = if rest > PIECE { flag::MORE } else { 0 };
        let front = large.draft.front(content, more);
        let start = piece_start(large.next);
        if let Some(place) = large.draft.buffer.get_mut(start..large.next) {
            place.copy_from_slice(&front);
        }
        rare.piece = Some(Piece { at: start, end: large.next + content });
    }

    fn end_piece(&mut self) {
        // The small packets that came meanwhile go before the next piece.
        self.turn = self.small.len();
        let Some(rare) = &mut self.rare else { return };
        rare.piece = None;
        let Some(mut large) = rare.large.pop_front() else { return };
        large.next += PIECE;
        if large.next < large.draft.buffer.len() {
            rare.large.push_back(large);
            return;
        }
        let spare = mem::replace(&mut rare.spare, mem::take(&mut large.draft.buffer));
        rare.waste(spare);
        for draft in mem::take(&mut large.behind) {
            self.enqueue(draft);
        }
    }
}

impl Rare {
    /// Leaves large memory to the program to be freed, if little is left already.
    fn waste(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() >= WASTE && self.waste.len() < WASTES {
            self.waste.push(buffer);
        }
    }

    fn wasted(&self) -> usize {
        self.waste.iter().map(Vec::capacity).sum()
    }
}

impl Span {
    fn length(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.start)).unwrap_or(usize::MAX)
    }
}

impl Large {
    fn is_request(&self, id: u32) -> bool {
        self.draft.id == id && self.draft.kind == Status::REQUEST
    }

    /// Returns the bytes of the pieces that are not written, with the first header, and of the packets behind them.
    fn queued(&self) -> usize {
        let behind: usize = self.behind.iter().map(|draft| draft.buffer.len()).sum();
        self.draft.buffer.len().saturating_sub(piece_start(self.next)) + behind
    }
}

/// Returns the start of the header of the piece whose content begins at `next`.
fn piece_start(next: usize) -> usize {
    next.saturating_sub(FRONT)
}

/// The most content that goes in one packet.
pub(crate) const PIECE: usize = 64 * 1024;

/// The largest number of written bytes for which the rest does not move, and the largest buffer that is kept.
const MAX_KEPT_CAPACITY: usize = 64 * 1024;

/// The least memory that takes long to free, in bytes, and the largest number of such buffers left to the program.
const WASTE: usize = 512 * 1024;
const WASTES: usize = 2;

/// The least memory that only many small packets need, in bytes.
const MIN_KEPT_CAPACITY: usize = 1024;

#[cfg(test)]
mod tests;

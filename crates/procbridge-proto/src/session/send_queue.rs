//! The packets that wait to be written, in the order in which they will be (PB-CON-*, PB-PCE-*).
//!
//! Small packets stand behind each other in one buffer, so that one write carries many. A large body is kept as it
//! was built and goes in pieces: the header of each piece is written over the bytes in front of it, which are on the
//! wire already, so nothing is copied. Large bodies take turns, and the small packets that wait go between the
//! pieces; only what belongs to a call with a large body in the queue waits behind that.
//!
//! Requests must go in the order of their ids. A large one that cannot begin at once is led by an empty piece in the
//! buffer, so that the requests after it need not wait for its turn.

use alloc::boxed::Box;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::mem;

use crate::header::Header;
use crate::packet::{FRONT, HEADROOM};
use crate::wire::{HEADER_LENGTH, Status, Version, flag};

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    small: Vec<u8>,
    /// How far the buffer is written, and how far it may be before another packet has its turn.
    at: usize,
    until: usize,
    /// Where the small packets end that go before the next piece.
    turn: usize,
    /// How many bytes have left the buffer. Places are counted from the first one ever.
    base: u64,
    /// The requests in the buffer of which nothing is written.
    requests: VecDeque<Span>,
    written: u64,
    /// What is rare. A session in which only small packets go out has no memory for it.
    rare: Option<Box<Rare>>,
}

/// Large bodies, and holes among the small packets.
#[derive(Debug, Default)]
struct Rare {
    /// The requests in the buffer that were taken back.
    holes: VecDeque<Span>,
    hole_bytes: usize,
    large: VecDeque<Large>,
    /// The piece of the first large body that is being written.
    piece: Option<Piece>,
    /// The buffer of the last large body that was written. A large one often answers another: its memory is at hand, and
    /// asking the system for as much takes longer than to copy it.
    spare: Vec<u8>,
    /// Memory of large bodies to be freed by the program, which may take long.
    waste: Vec<Vec<u8>>,
}

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

/// What became of a request that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// Nothing of it was written, and nothing will be.
    Whole,
    /// A part of it was written, and no further piece will be.
    Rest,
    /// All of it was written.
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
    /// An empty piece in the buffer leads it.
    led: bool,
    /// What stands before this place goes before its first piece: its lead, and earlier packets of its call.
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

    /// Takes note that a request of `length` bytes goes to the end of the buffer.
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

    /// The next bytes.
    pub(crate) fn transmit(&self) -> &[u8] {
        match self.rare.as_ref().and_then(|rare| Some((rare.piece?, rare.large.front()?))) {
            Some((piece, large)) => large.draft.buffer.get(piece.at..piece.end).unwrap_or_default(),
            None => self.small.get(self.at..self.until).unwrap_or_default(),
        }
    }

    /// Takes note that `count` of them were written.
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

    /// Keeps a call's request from being written, as far as it is not.
    pub(crate) fn withdraw(&mut self, id: u32) -> Withdrawn {
        let taken = self.withdraw_one(id);
        self.prepare();
        taken
    }

    fn withdraw_one(&mut self, id: u32) -> Withdrawn {
        if let Ok(at) = self.requests.binary_search_by_key(&id, |request| request.id) {
            if let Some(request) = self.requests.remove(at) {
                let rare = self.rare.get_or_insert_default();
                rare.hole_bytes += request.length();
                let at = rare.holes.partition_point(|hole| hole.start < request.start);
                rare.holes.insert(at, request);
                // It may have been the lead of a large one, no piece of which has begun then.
                rare.large.retain(|large| !large.is_request(id));
            }
            self.drop_holes();
            return Withdrawn::Whole;
        }
        let Some(rare) = &mut self.rare else { return Withdrawn::Nothing };
        let Some(at) = rare.large.iter().position(|large| large.is_request(id)) else {
            return Withdrawn::Nothing;
        };
        match (&mut rare.piece, rare.large.get_mut(at)) {
            (Some(piece), Some(large)) if at == 0 && piece.at > piece_start(large.next) => {
                // A packet that was begun is ended; it may be the last piece anyway.
                let rest = large.draft.buffer.len() > piece.end;
                large.draft.buffer.truncate(piece.end);
                return if rest { Withdrawn::Rest } else { Withdrawn::Nothing };
            }
            _ => {}
        }
        if at == 0 {
            rare.piece = None;
        }
        let Some(large) = rare.large.remove(at) else { return Withdrawn::Nothing };
        rare.waste(large.draft.buffer);
        for draft in large.behind {
            self.enqueue(draft);
        }
        if large.next == FRONT && !large.led { Withdrawn::Whole } else { Withdrawn::Rest }
    }

    /// Gives back the memory of requests that were taken back: while the peer reads nothing, those before them are not
    /// written, and callers that give up and call again would fill the buffer.
    fn drop_holes(&mut self) {
        while let Some(rare) = &mut self.rare
            && let Some(hole) = rare.holes.back()
            && hole.end == self.base.saturating_add(self.small.len() as u64)
        {
            rare.hole_bytes -= hole.length();
            self.small.truncate(self.small.len().saturating_sub(hole.length()));
            rare.holes.pop_back();
        }
        self.turn = self.turn.min(self.small.len());
        let end = self.end_position();
        for large in self.rare.iter_mut().flat_map(|rare| &mut rare.large) {
            // A later packet takes the place of what is gone. A piece that began behind the old end would cut it in two.
            large.after = large.after.min(end);
        }
        let waiting = self.small.len().saturating_sub(self.at);
        if self
            .rare
            .as_ref()
            .is_some_and(|rare| rare.hole_bytes > MAX_KEPT_CAPACITY && rare.hole_bytes > waiting / 2)
        {
            self.compact();
        }
    }

    /// Moves what waits together, over the holes.
    fn compact(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let holes = mem::take(&mut rare.holes);
        let (base, at) = (self.base, self.at);
        let index = |place: u64| usize::try_from(place.saturating_sub(base)).unwrap_or(usize::MAX);
        let mut kept = Vec::with_capacity(self.small.len().saturating_sub(at + rare.hole_bytes));
        let mut from = at;
        for hole in &holes {
            kept.extend_from_slice(self.small.get(from..index(hole.start)).unwrap_or_default());
            from = index(hole.end);
        }
        kept.extend_from_slice(self.small.get(from..).unwrap_or_default());
        // The requests stand in the order of the holes.
        let (mut passed, mut bytes) = (holes.iter().peekable(), 0);
        for request in &mut self.requests {
            while let Some(hole) = passed.next_if(|hole| hole.start < request.start) {
                bytes += hole.length() as u64;
            }
            (request.start, request.end) =
                (request.start.saturating_sub(bytes), request.end.saturating_sub(bytes));
        }
        let moved = |place: u64| {
            let before = holes.iter().take_while(|hole| hole.start < place).map(Span::length).sum::<usize>();
            place.saturating_sub(before as u64)
        };
        for large in &mut rare.large {
            large.after = moved(large.after);
        }
        self.turn = index(moved(base.saturating_add(self.turn as u64))).saturating_sub(at);
        rare.hole_bytes = 0;
        (self.small, self.at, self.base) = (kept, 0, base.saturating_add(at as u64));
    }

    /// Whether nothing of a call's request is written yet.
    pub(crate) fn is_unsent(&self, id: u32) -> bool {
        self.requests.binary_search_by_key(&id, |request| request.id).is_ok()
            || self.large().enumerate().any(|(at, large)| {
                let begun = at == 0 && self.piece().is_some_and(|piece| piece.at > 0);
                large.is_request(id) && large.next == FRONT && !large.led && !begun
            })
    }

    /// The requests above `id` of which nothing is written, ascending.
    pub(crate) fn unsent_above(&self, id: u32) -> Vec<u32> {
        let small = self.requests.iter().map(|request| request.id);
        let large = self.large().map(|large| &large.draft);
        let large = large.filter(|draft| draft.kind == Status::REQUEST).map(|draft| draft.id);
        // The lead of a large one is in the buffer, so that one comes twice.
        ascending(small.chain(large).filter(|&at| at > id && self.is_unsent(at)).collect())
    }

    /// Drops the large bodies, as far as no piece of theirs is being written, and what waits behind them.
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

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        let small = self.small.len() - self.at;
        let Some(rare) = &self.rare else { return small };
        let mut large = rare.large.iter().map(Large::queued).sum::<usize>();
        if let (Some(piece), Some(first)) = (rare.piece, rare.large.front()) {
            large = large.saturating_sub(piece.at - piece_start(first.next));
        }
        small.saturating_sub(rare.hole_bytes) + large
    }

    /// Gives back memory that many small packets needed, or what is rare.
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

    /// An empty buffer, a large one if one was written lately.
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

    /// Takes the memory away that is to be freed.
    pub(crate) fn take_waste(&mut self) -> Vec<Vec<u8>> {
        self.rare.as_mut().map(|rare| mem::take(&mut rare.waste)).unwrap_or_default()
    }

    /// Bytes of memory held for nothing.
    pub(crate) fn spare(&self) -> usize {
        let small = if self.small.is_empty() { self.small.capacity() } else { 0 };
        self.rare.as_ref().map_or(0, |rare| rare.spare.capacity() + rare.wasted()) + small
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The place where the buffer ends.
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

    /// Finds what is written next.
    fn prepare(&mut self) {
        if self.rare.is_some() {
            return self.prepare_rare();
        }
        self.forget_written();
        self.until = self.small.len();
    }

    /// Lets go of what is written of the buffer.
    fn forget_written(&mut self) {
        if self.at >= self.small.len() {
            self.base = self.base.saturating_add(self.small.len() as u64);
            // What many small packets needed they will need again; one alone brings its own memory.
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
    /// Leaves memory to the program to be freed, if that takes long and it has not left much already.
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

impl Draft {
    /// Header and call id of a packet or piece with so much content.
    fn front(&self, content: usize, more: u8) -> [u8; FRONT] {
        front(self.kind, self.flags | more, self.options, self.id, content)
    }
}

impl Large {
    fn is_request(&self, id: u32) -> bool {
        self.draft.id == id && self.draft.kind == Status::REQUEST
    }

    /// Bytes of the pieces that are not written, with the header of the first, and of what waits behind them.
    fn queued(&self) -> usize {
        let behind: usize = self.behind.iter().map(|draft| draft.buffer.len()).sum();
        self.draft.buffer.len().saturating_sub(piece_start(self.next)) + behind
    }
}

/// Header and call id in front of so much content.
fn front(status: Status, flags: u8, options: u8, id: u32, content: usize) -> [u8; FRONT] {
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

/// Where the header of the piece stands whose content begins at `next`.
fn piece_start(next: usize) -> usize {
    next.saturating_sub(FRONT)
}

/// The most content that goes in one packet.
pub(crate) const PIECE: usize = 64 * 1024;

/// Written bytes that are not worth moving the rest. More memory than that is not kept either.
const MAX_KEPT_CAPACITY: usize = 64 * 1024;

/// Memory of so many bytes takes long to be freed, and so many times it is left to the program.
const WASTE: usize = 512 * 1024;
const WASTES: usize = 2;

/// Memory that only many small packets need.
const MIN_KEPT_CAPACITY: usize = 1024;

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn draft(id: u32, size: usize) -> Draft {
        let mut buffer = alloc::vec![0; FRONT];
        buffer.resize(FRONT + size, b'a' + (id % 26) as u8);
        Draft { kind: Status::REQUEST, flags: 0, options: 0, id, buffer }
    }

    /// The ids of the packets of `bytes`, in order; the pieces of a large body are one.
    fn ids(bytes: &[u8]) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), bytes);
        while let Some(header) = Header::parse(rest).unwrap() {
            let (packet, behind) = rest.split_at(HEADER_LENGTH + header.length as usize);
            let id = u32::from_le_bytes(packet[HEADER_LENGTH..FRONT].try_into().unwrap());
            assert!(packet[FRONT..].iter().all(|&byte| byte == b'a' + (id % 26) as u8), "{id}");
            if !ids.contains(&id) {
                ids.push(id);
            }
            rest = behind;
        }
        assert!(rest.is_empty());
        ids
    }

    /// While the peer reads nothing a caller can give up any number of calls (fault G-E).
    #[test]
    fn calls_that_are_taken_back_leave_no_memory_behind() {
        let mut out = SendQueue::default();
        out.push(draft(1, 20_000));
        for id in 2..10_000 {
            out.push(draft(id, 20_000));
            assert_eq!(out.withdraw(id), Withdrawn::Whole);
            assert!(out.small.len() < 30_000, "{} B after {id}", out.small.len());
        }
        assert_eq!(ids(&out.small), [1]);
    }

    /// A small packet that came where a request was taken back was cut in two by the piece of a large one (1 of 600 runs
    /// of the model of a session).
    #[test]
    fn a_large_body_that_waits_for_a_request_taken_back_cuts_no_packet() {
        let mut out = SendQueue::default();
        let mut written = Vec::new();
        let mut write = |out: &mut SendQueue| {
            written.extend_from_slice(out.transmit());
            out.transmitted(usize::MAX);
        };
        out.push(draft(1, PIECE + 1));
        out.push(draft(3, 10));
        out.push(draft(5, PIECE + 1));
        out.push(Draft { kind: Status::GOOD, ..draft(2, PIECE + 1) });
        assert_eq!(out.withdraw(5), Withdrawn::Whole);
        write(&mut out);
        out.push(draft(7, 500));
        while !out.transmit().is_empty() {
            write(&mut out);
        }
        assert_eq!(ids(&written), [1, 3, 2, 7]);
    }

    #[test]
    fn calls_that_are_taken_back_out_of_the_middle_are_compacted_away() {
        let mut random: u32 = 7;
        let mut roll = move |most: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % most
        };
        for round in 0..200 {
            let (mut out, mut written, mut kept) = (SendQueue::default(), Vec::new(), Vec::new());
            let mut waiting = Vec::new();
            for id in 1..200 {
                let size = if roll(20) == 0 { 200_000 } else { roll(12_000) as usize };
                out.push(draft(id, size));
                waiting.push(id);
                kept.push(id);
                while waiting.len() > 3 {
                    let id = waiting.remove(roll(waiting.len() as u32) as usize);
                    if roll(8) > 0 && out.withdraw(id) == Withdrawn::Whole {
                        kept.retain(|&other| other != id);
                    }
                }
                if roll(4) == 0 {
                    let count = out.transmit().len().min(roll(8_000) as usize);
                    written.extend_from_slice(&out.transmit()[..count]);
                    out.transmitted(count);
                }
            }
            let most = out.queued() + (2 * MAX_KEPT_CAPACITY).max(out.queued());
            assert!(out.small.len() - out.at <= most, "round {round}: {} B", out.small.len());
            while !out.transmit().is_empty() {
                written.extend_from_slice(out.transmit());
                let count = out.transmit().len();
                out.transmitted(count);
            }
            let found = ids(&written);
            assert!(found.is_sorted(), "{}", format!("round {round}: {found:?}"));
            // The rest of a large one that was begun may be missing; it still stands here, as far as it was written.
            assert_eq!(found, kept, "round {round}");
            assert_eq!((out.queued(), out.is_unsent(kept[0])), (0, false));
        }
    }
}

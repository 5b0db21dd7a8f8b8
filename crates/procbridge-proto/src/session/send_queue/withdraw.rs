//! Withdraws requests from the send queue, as far as they have not been written.

use alloc::vec::Vec;
use core::mem;

use crate::packet::FRONT;
use crate::session::draft::ascending;
use crate::session::send_queue::{MAX_KEPT_CAPACITY, SendQueue, Span, Withdrawn, piece_start};
use crate::wire::Status;

impl SendQueue {
    /// Withdraws a call's request, as far as it has not been written.
    pub(crate) fn withdraw(&mut self, id: u32) -> Withdrawn {
        let taken = self.withdraw_one(id);
        self.prepare();
        taken
    }

    pub(super) fn withdraw_one(&mut self, id: u32) -> Withdrawn {
        if let Ok(at) = self.requests.binary_search_by_key(&id, |request| request.id) {
            if let Some(request) = self.requests.remove(at) {
                let rare = self.rare.get_or_insert_default();
                rare.hole_bytes += request.length();
                let at = rare.holes.partition_point(|hole| hole.start < request.start);
                rare.holes.insert(at, request);
                // If this was the lead of a large request, no piece of that has begun.
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
                // A partly written packet is completed. It may be the last piece anyway.
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

    /// Frees the memory of withdrawn requests. While the peer reads nothing, the requests before them are not written.
    /// Callers that give up and call again would then fill the buffer.
    pub(super) fn drop_holes(&mut self) {
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
            // A later packet takes the position of the removed one. A piece that began behind the old end would cut it
            // in two.
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

    /// Moves the queued bytes together, over the holes.
    pub(super) fn compact(&mut self) {
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
        // The requests and the holes are both in order.
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

    /// Whether nothing of a call's request has been written.
    pub(crate) fn is_unsent(&self, id: u32) -> bool {
        self.requests.binary_search_by_key(&id, |request| request.id).is_ok()
            || self.large().enumerate().any(|(at, large)| {
                let begun = at == 0 && self.piece().is_some_and(|piece| piece.at > 0);
                large.is_request(id) && large.next == FRONT && !large.led && !begun
            })
    }

    /// Returns the requests above `id` of which nothing has been written.
    pub(crate) fn unsent_above(&self, id: u32) -> Vec<u32> {
        let small = self.requests.iter().map(|request| request.id);
        let large = self.large().map(|large| &large.draft);
        let large = large.filter(|draft| draft.kind == Status::REQUEST).map(|draft| draft.id);
        // The lead of a large request is in the buffer, so that id comes twice.
        ascending(small.chain(large).filter(|&at| at > id && self.is_unsent(at)).collect())
    }
}

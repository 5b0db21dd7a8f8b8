//! Reassembly of bodies that arrive in pieces, and a record of refused ones (PB-PCE-*).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use crate::body::Body;
use crate::compression::codec::Codec;
use crate::error::ProtocolError;
use crate::session::frames::{Content, Frame};
use crate::wire::{Status, flag};

/// The incomplete bodies. A call has at most one on its way to this side. Usually there are none, and then there is no
/// memory for them.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    parts: Option<Box<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    open: BTreeMap<u32, OpenBody>,
    /// The bytes of all requests among them.
    requests: usize,
    /// Requests that were answered before their last piece came. Later pieces are dropped.
    late: Ids,
    /// The same for calls that their caller has cancelled. Further pieces are unlikely.
    cancelled: Ids,
}

/// Some ids, ascending. They are few, so inserting by moving them is cheap.
#[derive(Debug, Default)]
struct Ids(Vec<u32>);

#[derive(Debug)]
struct OpenBody {
    /// The header of the first piece.
    first: Frame,
    content: Body,
    /// The bytes that came, including those that were not kept.
    length: usize,
    kept: bool,
}

/// The result of joining a packet with the pieces before it.
#[derive(Debug)]
pub(crate) enum Joined {
    /// The body is complete. The flags are those of its first piece.
    Whole { flags: u8, content: Body },
    /// The body was discarded, and has ended after `length` bytes.
    Dropped { length: usize },
    /// Pieces are missing.
    Open,
}

impl Reassembly {
    /// Whether pieces of this call are here and more must come.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.open.contains_key(&id))
    }

    /// Whether pieces of any call are here and more must come.
    pub(crate) fn is_any_open(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| !parts.open.is_empty())
    }

    /// Whether a packet fits the pieces before it.
    pub(crate) fn check(&self, frame: &Frame) -> Result<(), ProtocolError> {
        match self.open(frame.id) {
            Some(open)
                if open.first.kind != frame.kind || (open.first.flags ^ frame.flags) & Codec::MASK != 0 =>
            {
                Err(ProtocolError::UnexpectedPiece { kind: frame.kind, id: frame.id })
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of bytes of this call's body so far.
    pub(crate) fn length(&self, id: u32) -> usize {
        self.open(id).map_or(0, |open| open.length)
    }

    /// Returns the bytes of all incomplete requests.
    pub(crate) fn requests(&self) -> usize {
        self.parts.as_ref().map_or(0, |parts| parts.requests)
    }

    /// Takes the body so far, for its next piece to be appended. [`join`](Self::join) puts it back.
    pub(crate) fn lend(&mut self, id: u32) -> Body {
        self.open_mut(id).map(|open| mem::take(&mut open.content)).unwrap_or_default()
    }

    /// Adds a packet's content, which was appended to the [lent](Self::lend) body.
    pub(crate) fn join(&mut self, frame: &Frame, content: Content) -> Joined {
        let more = frame.flags & flag::MORE != 0;
        if !more && !self.is_open(frame.id) {
            return Joined::Whole { flags: frame.flags, content: content.body };
        }
        let length = content.len();
        let body = content.body;
        let parts = self.parts.get_or_insert_default();
        let open = match parts.open.get_mut(&frame.id) {
            None => {
                let open = OpenBody { first: *frame, content: body, length, kept: true };
                parts.open.entry(frame.id).or_insert(open)
            }
            Some(open) => {
                open.length = open.length.saturating_add(length);
                if open.kept {
                    open.content = body;
                }
                open
            }
        };
        if open.kept && frame.kind == Status::REQUEST {
            parts.requests += length;
        }
        if more {
            return Joined::Open;
        }
        match self.remove(frame.id) {
            Some(OpenBody { kept: true, first, content, .. }) => {
                Joined::Whole { flags: first.flags, content }
            }
            Some(OpenBody { length, .. }) => Joined::Dropped { length },
            None => Joined::Open,
        }
    }

    /// Drops the pieces of an answer, also those that still come.
    pub(crate) fn discard(&mut self, id: u32) {
        if let Some(open) = self.open_mut(id) {
            open.kept = false;
            open.content = Body::default();
        }
    }

    /// Forgets a body.
    pub(crate) fn forget(&mut self, id: u32) {
        self.remove(id);
    }

    /// Expects pieces of a request that has been answered, as its caller may not know that yet.
    pub(crate) fn expect_late(&mut self, id: u32) -> Result<(), ProtocolError> {
        let late = &mut self.parts.get_or_insert_default().late;
        late.insert(id);
        if late.0.len() > MAX_LATE { Err(ProtocolError::TooManyUnfinished) } else { Ok(()) }
    }

    /// Notes that the caller of an answered request has cancelled it. An honest caller sends nothing more for it,
    /// however many it cancels. So at the limit the oldest is forgotten, and the session goes on.
    pub(crate) fn expect_late_cancelled(&mut self, id: u32) {
        let parts = self.parts.get_or_insert_default();
        parts.late.remove(id);
        parts.cancelled.insert(id);
        if parts.cancelled.0.len() > MAX_LATE {
            parts.cancelled.0.remove(0);
        }
    }

    /// Whether further pieces of this request are expected, to be dropped.
    pub(crate) fn is_late(&self, id: u32) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.late.contains(id) || parts.cancelled.contains(id))
    }

    /// Whether the caller of a late request may not know yet that it was answered.
    pub(crate) fn is_late_unaware(&self, id: u32) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.late.contains(id))
    }

    /// Ends a late request, whose last piece came.
    pub(crate) fn end_late(&mut self, id: u32) {
        if let Some(parts) = &mut self.parts {
            parts.late.remove(id);
            parts.cancelled.remove(id);
        }
    }

    /// Returns the request that holds the most bytes, and their number.
    pub(crate) fn largest_request(&self) -> Option<(u32, usize)> {
        let requests = self.all().filter(|(_, open)| open.first.kind == Status::REQUEST);
        requests.map(|(id, open)| (id, open.content.len())).max_by_key(|&(_, length)| length)
    }

    /// Returns the incomplete requests.
    pub(crate) fn open_requests(&self) -> impl Iterator<Item = u32> {
        self.all().filter(|(_, open)| open.first.kind == Status::REQUEST).map(|(id, _)| id)
    }

    /// Returns the bytes of memory held.
    pub(crate) fn held(&self) -> usize {
        self.all().map(|(_, open)| open.content.held()).sum()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn all(&self) -> impl Iterator<Item = (u32, &OpenBody)> {
        self.parts.iter().flat_map(|parts| &parts.open).map(|(&id, open)| (id, open))
    }

    fn open(&self, id: u32) -> Option<&OpenBody> {
        self.parts.as_ref()?.open.get(&id)
    }

    fn open_mut(&mut self, id: u32) -> Option<&mut OpenBody> {
        self.parts.as_mut()?.open.get_mut(&id)
    }

    fn remove(&mut self, id: u32) -> Option<OpenBody> {
        let parts = self.parts.as_mut()?;
        let open = parts.open.remove(&id)?;
        if open.kept && open.first.kind == Status::REQUEST {
            parts.requests = parts.requests.saturating_sub(open.length);
        }
        if parts.open.is_empty() && parts.late.0.is_empty() && parts.cancelled.0.is_empty() {
            self.parts = None;
        }
        Some(open)
    }
}

impl Ids {
    fn contains(&self, id: u32) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    fn insert(&mut self, id: u32) {
        if let Err(at) = self.0.binary_search(&id) {
            self.0.insert(at, id);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Ok(at) = self.0.binary_search(&id) {
            self.0.remove(at);
            if self.0.is_empty() {
                self.0 = Vec::new();
            }
        }
    }
}

/// The largest number of answered requests that are remembered for late pieces.
const MAX_LATE: usize = 1024;

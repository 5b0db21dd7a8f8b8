//! A message that has arrived and has not been looked at: a receiver that has no place for it spends nothing on it, and one
//! that has reads it where that holds up no other call (PB-CMP-*, PB-REQ-*, PB-RES-*, PB-STR-*).

use core::marker::PhantomData;

use crate::body::Body;
use crate::compression::codec::Codec;
use crate::compression::inflate;
use crate::error::ProtocolError;
use crate::header::Header;
use crate::limits::Limits;
use crate::message::{Item, Request, Response};
use crate::wire::{Status, Version, flag};

/// A message of a session as it arrived: compressed, or so large that to check it takes time.
///
/// Its `read` inflates and checks it, which needs no connection: the thread that does it holds up no other call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread<M> {
    kind: Status,
    flags: u8,
    content: Body,
    limits: Limits,
    message: PhantomData<fn() -> M>,
}

/// A request that has not been read.
pub type UnreadRequest = Unread<Request>;

/// An answer that has not been read.
pub type UnreadResponse = Unread<Response>;

/// One element of a streamed result that has not been read.
pub type UnreadItem = Unread<Item>;

impl<M> Unread<M> {
    pub(crate) fn new(kind: Status, flags: u8, content: Body, limits: Limits) -> Self {
        Self { kind, flags, content, limits, message: PhantomData }
    }

    /// Whether to read it takes time.
    pub(crate) fn is_costly(&self) -> bool {
        self.codec().is_some() || self.content.len() >= MIN_UNREAD
    }

    /// Returns the bytes that arrived.
    pub fn arrived(&self) -> usize {
        self.content.len()
    }

    /// Returns the most bytes that its text can have, told without inflating it: what the content declares, else the body
    /// limit.
    pub fn size(&self) -> usize {
        self.declared().unwrap_or(self.limits.max_body() as usize)
    }

    /// Returns how it was compressed, if it was.
    pub fn codec(&self) -> Option<Codec> {
        Codec::of_flags(self.flags)
    }

    /// Returns the bytes of its text as far as they are known, at most the body limit.
    fn declared(&self) -> Option<usize> {
        match self.codec() {
            Some(codec) => inflate::declared_size(codec, self.content.front(), self.limits.max_body()),
            None => Some(self.content.len()),
        }
    }

    /// Inflates the text.
    pub(crate) fn inflate(&mut self) -> Result<(), ProtocolError> {
        let Some(codec) = self.codec() else { return Ok(()) };
        let limit = self.limits.max_body();
        let inflated = match self.content.as_part() {
            Some(content) => inflate::inflate(codec, content, limit),
            None => inflate::inflate(codec, &core::mem::take(&mut self.content).into_bytes(), limit),
        };
        self.content = inflated?.into();
        Ok(())
    }
}

impl Unread<Request> {
    /// Whether the caller wants no answer.
    pub fn is_one_way(&self) -> bool {
        self.flags & flag::ONE_WAY != 0
    }

    /// Whether the caller welcomes the result in items.
    pub fn wants_items(&self) -> bool {
        self.flags & (flag::STREAM | flag::ONE_WAY) == flag::STREAM
    }

    /// Inflates and checks the request.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no request. The call is to be answered with [that](ProtocolError::answer).
    pub fn read(mut self) -> Result<Request, ProtocolError> {
        self.inflate()?;
        Ok(Request::read(Version::V1_1, self.content.into_bytes(), &self.limits)?.with_flags(self.flags))
    }
}

impl Unread<Response> {
    /// Inflates and checks the answer, all but the result if that is [left](Limits::with_results_unchecked) to a parser.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no answer. The call has ended with that.
    pub fn read(mut self) -> Result<Response, ProtocolError> {
        self.inflate()?;
        self.inflated()
    }

    /// Inflates and checks the answer, the result included.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_checked(mut self) -> Result<Response, ProtocolError> {
        self.limits = self.limits.with_results_checked();
        self.read()
    }

    /// Checks the text, which has been inflated.
    pub(crate) fn inflated(self) -> Result<Response, ProtocolError> {
        let header = Header::classic(Version::V1_1, self.kind, 0);
        Response::read(&header, self.content.into_bytes(), &self.limits)
    }
}

impl Unread<Item> {
    /// Returns the bytes that it has cost of its call's credit: the size of its text, if that was known. What it has
    /// [more](Item::size) once it is read is to be [charged](crate::Connection::charge).
    pub fn charged(&self) -> u64 {
        self.declared().unwrap_or(self.content.len()) as u64
    }

    /// Inflates and checks the item.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no item. Its call is to be [given up](crate::Connection::cancel), and ends with that.
    pub fn read(mut self) -> Result<Item, ProtocolError> {
        self.inflate()?;
        self.inflated()
    }

    /// Checks the text, which has been inflated.
    pub(crate) fn inflated(self) -> Result<Item, ProtocolError> {
        Item::read(self.content.into_bytes(), &self.limits)
    }
}

/// Checking a text of this size takes so long that other calls of the session would notice.
const MIN_UNREAD: usize = 1024 * 1024;

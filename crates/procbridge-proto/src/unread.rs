//! Messages that have arrived and have not been read (PB-CMP-*, PB-REQ-*, PB-RES-*, PB-STR-*). A receiver without a
//! permit spends nothing on such a message. With a permit it reads the message outside the session's lock.

use core::marker::PhantomData;

use crate::body::Body;
use crate::compression::codec::Codec;
use crate::compression::inflate;
use crate::error::ProtocolError;
use crate::header::Header;
use crate::limits::Limits;
use crate::message::{Item, Request, Response};
use crate::wire::{Status, Version, flag};

/// A message of a session as it arrived: compressed, or so large that checking it takes time.
///
/// Its `read` inflates and checks it. That needs no connection, so the reading thread delays no other call.
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

    /// Whether reading the message takes time.
    pub(crate) fn is_costly(&self) -> bool {
        self.codec().is_some() || self.content.len() >= MIN_UNREAD
    }

    /// Returns the number of bytes that arrived.
    pub fn arrived(&self) -> usize {
        self.content.len()
    }

    /// Returns the largest size that the text can have, without inflating it: the declared size, else the body limit.
    pub fn size(&self) -> usize {
        self.declared().unwrap_or(self.limits.max_body() as usize)
    }

    /// Returns the compression, if the message has one.
    pub fn codec(&self) -> Option<Codec> {
        Codec::of_flags(self.flags)
    }

    /// Returns the declared size of the text if there is one, at most the body limit.
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

    /// Whether the caller accepts the result in items.
    pub fn wants_items(&self) -> bool {
        self.flags & (flag::STREAM | flag::ONE_WAY) == flag::STREAM
    }

    /// Inflates and checks the request.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no request. Answer the call with the error's [answer](ProtocolError::answer).
    pub fn read(mut self) -> Result<Request, ProtocolError> {
        self.inflate()?;
        Ok(Request::read(Version::V1_1, self.content.into_bytes(), &self.limits)?.with_flags(self.flags))
    }
}

impl Unread<Response> {
    /// Inflates and checks the answer. The result may be [left](Limits::with_results_unchecked) to a parser.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no answer. The call has ended with that error.
    pub fn read(mut self) -> Result<Response, ProtocolError> {
        self.inflate()?;
        self.inflated()
    }

    /// Inflates and checks the answer, including the result.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read).
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
    /// Returns the credit that the item has cost, in bytes: the size of its text, if that was known. If its
    /// [size](Item::size) is larger once it is read, [charge](crate::Connection::charge) the difference.
    pub fn charged(&self) -> u64 {
        self.declared().unwrap_or(self.content.len()) as u64
    }

    /// Inflates and checks the item.
    ///
    /// # Errors
    ///
    /// The text is over a limit, or is no item. [Cancel](crate::Connection::cancel) its call, which ends with that
    /// error.
    pub fn read(mut self) -> Result<Item, ProtocolError> {
        self.inflate()?;
        self.inflated()
    }

    /// Checks the text, which has been inflated.
    pub(crate) fn inflated(self) -> Result<Item, ProtocolError> {
        Item::read(self.content.into_bytes(), &self.limits)
    }
}

/// The size of a text whose check noticeably delays other calls of the session, in bytes.
const MIN_UNREAD: usize = 1024 * 1024;

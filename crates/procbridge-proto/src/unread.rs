//! A request that has arrived and has not been looked at: a server that has no place for it spends nothing on it
//! (PB-CMP-*, PB-REQ-*).

use alloc::vec::Vec;

use crate::codec::Codec;
use crate::compression;
use crate::error::ProtocolError;
use crate::header::{Version, flag};
use crate::limits::Limits;
use crate::message::Request;

/// A request of a session as it arrived: compressed, or so large that to check it takes time.
///
/// [`read`](Self::read) inflates and checks it, which needs no connection: the thread that does it holds up no other call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadRequest {
    pub(crate) flags: u8,
    pub(crate) content: Vec<u8>,
    pub(crate) limits: Limits,
}

impl UnreadRequest {
    /// Returns the bytes that arrived.
    pub fn arrived(&self) -> usize {
        self.content.len()
    }

    /// Returns the most bytes that its text can have, told without inflating it: what the content declares, else the body
    /// limit.
    pub fn size(&self) -> usize {
        match self.codec() {
            Some(codec) => compression::declared_size(codec, &self.content, self.limits.max_body()),
            None => self.content.len(),
        }
    }

    /// Returns how it was compressed, if it was.
    pub fn codec(&self) -> Option<Codec> {
        Codec::of_flags(self.flags)
    }

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
    pub fn read(self) -> Result<Request, ProtocolError> {
        let Self { flags, content, limits } = self;
        let body = match Codec::of_flags(flags) {
            Some(codec) => compression::inflate(codec, &content, limits.max_body())?,
            None => content,
        };
        Ok(Request::read(Version::V1_1, body, &limits)?.with_flags(flags))
    }
}

/// Checking a text of this size takes so long that other calls of the session would notice.
pub(crate) const LARGE: usize = 1024 * 1024;

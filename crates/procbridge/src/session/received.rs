//! A message as it arrived: read, or still to be read outside the session's lock.

use procbridge_proto::{Request, Unread};

/// A message as the core hands it out.
#[derive(Debug)]
pub(crate) enum Received<M> {
    Read(M),
    Unread(Unread<M>),
}

impl Received<Request> {
    /// Returns the bytes of its text, as far as they are known.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Read(request) => request.size(),
            Self::Unread(request) => request.size().max(request.arrived()),
        }
    }

    /// Whether the call is one-way.
    pub(crate) fn is_one_way(&self) -> bool {
        match self {
            Self::Read(request) => request.is_one_way(),
            Self::Unread(request) => request.is_one_way(),
        }
    }

    /// Returns the method's name, if the text has been read.
    pub(crate) fn method(&self) -> Option<&str> {
        match self {
            Self::Read(request) => request.method(),
            Self::Unread(_) => None,
        }
    }
}

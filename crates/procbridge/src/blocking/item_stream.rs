//! Receives the items of a streamed answer (PB-STR-*).

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use procbridge_proto::Response;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::blocking::flow::Begun;
use crate::blocking::ticker;
use crate::blocking::wait;
use crate::classic::client::CallTimeout;
use crate::client::request;
use crate::error::{Error, ErrorKind, Outcome};
use crate::json::parse;
use crate::session::PendingCall;
use crate::session::received::Received;

/// The items of a streamed answer, see [`Client::stream`](crate::Client::stream). Dropping it cancels the call.
///
/// The iterator ends after the last item, or after the error that ended the stream.
#[must_use = "a stream that is dropped is cancelled"]
pub struct Items<T> {
    source: Source,
    time: CallTimeout,
    item: PhantomData<fn() -> T>,
}

enum Source {
    Session(PendingCall),
    /// The elements of an array, from a server without streams.
    Array(VecDeque<Box<RawValue>>),
    /// The method's own result, unless an error ended the stream.
    Over(Option<Response>),
}

impl<T: DeserializeOwned> Items<T> {
    pub(super) fn new(begun: Begun, time: CallTimeout) -> Result<Self, Error> {
        let source = match begun {
            Begun::Calling(pending) => {
                ticker::tick(pending.session());
                Source::Session(pending)
            }
            Begun::Response(response) => match request::elements(&response)? {
                Some(elements) => Source::Array(elements),
                None => Source::Over(Some(response)),
            },
            Begun::Ready(..) | Begun::Sent => {
                return Err(Error::new(ErrorKind::Protocol, Outcome::Unknown, "the call was not answered"));
            }
        };
        Ok(Self { source, time, item: PhantomData })
    }

    /// Returns the method's own result besides its items; most methods return null. Drops the items that were not read.
    ///
    /// # Errors
    ///
    /// The error that ended the stream, and `InvalidResult` if the result is not an `R`.
    ///
    /// # Blocking
    ///
    /// Until the stream ends.
    pub fn finish<R: DeserializeOwned>(mut self) -> Result<R, Error> {
        while let Some(item) = self.next_raw() {
            item?;
        }
        match &self.source {
            Source::Over(Some(response)) => request::result(response),
            _ => parse::result("null"),
        }
    }

    /// Removes the deadline: the stream waits for items as long as they come.
    pub(super) fn without_limit(&mut self) {
        self.time.deadline = None;
    }

    fn next_raw(&mut self) -> Option<Result<Raw, Error>> {
        match &mut self.source {
            Source::Over(_) => None,
            Source::Array(elements) => match elements.pop_front() {
                Some(element) => Some(Ok(Raw::Element(element))),
                None => {
                    self.source = Source::Over(None);
                    None
                }
            },
            Source::Session(pending) => {
                let session = pending.session().clone();
                let next = wait::wait(&session, self.time.deadline, |waker| pending.poll_item(waker));
                let next = next.map(|next| match next? {
                    Received::Read(item) => Ok(item),
                    Received::Unread(item) => pending.read(item),
                });
                let ended = match next {
                    Some(Ok(item)) => return Some(Ok(Raw::Item(item))),
                    Some(Err(answer)) => request::answered(answer, &session),
                    None => Err(self.time.expired(pending.cancel())),
                };
                let ended = ended.and_then(|response| match &response {
                    Response::Bad(bad) => Err(Error::refused(bad)),
                    Response::Good(_) => Ok(response),
                });
                let (response, error) = match ended {
                    Ok(response) => (Some(response), None),
                    Err(error) => (None, Some(error)),
                };
                self.source = Source::Over(response);
                error.map(Err)
            }
        }
    }
}

enum Raw {
    Item(procbridge_proto::Item),
    Element(Box<RawValue>),
}

impl<T: DeserializeOwned> Iterator for Items<T> {
    type Item = Result<T, Error>;

    /// Returns the next item; `None` at the end of the stream.
    ///
    /// # Blocking
    ///
    /// Until the next item arrives, the stream ends, or its timeout passes.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_raw()?.and_then(|raw| match raw {
            Raw::Item(item) => parse::result(item.payload().unwrap_or("null")),
            Raw::Element(element) => parse::result(element.get()),
        }))
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

//! Receives the items of a streamed answer (PB-STR-*).

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::task::{JoinHandle, coop, spawn_blocking};
use ::tokio::time::{Sleep, sleep_until};
use futures_core::Stream;
use procbridge_proto::{Item, ProtocolError, Response};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::classic::client::CallTimeout;
use crate::client::request;
use crate::error::{Error, ErrorKind, Outcome};
use crate::json::parse;
use crate::session::received::Received;
use crate::session::{CallEnd, PendingCall};
use crate::tokio::flow::{self, Begun};
use crate::tokio::inner::Inner;

/// The items of a streamed answer, see [`Client::stream`](crate::tokio::Client::stream). Dropping it cancels the call.
/// It keeps its client's session open.
///
/// The [`Stream`] ends after the last item, or after the error that ended it.
#[must_use = "a stream that is dropped is cancelled"]
pub struct Items<T> {
    source: Source,
    time: CallTimeout,
    /// Ends the stream at its deadline, if it has one.
    timer: Option<Pin<Box<Sleep>>>,
    _client: Option<Arc<Inner>>,
    item: PhantomData<fn() -> T>,
}

enum Source {
    Session(PendingCall),
    /// A thread for blocking work reads an item of the session.
    Reading(PendingCall, Reading),
    /// The elements of an array, from a server without streams.
    Array(VecDeque<Box<RawValue>>),
    /// The method's own result, unless an error ended the stream.
    Over(Option<Response>),
}

/// A large item that is being read.
struct Reading {
    charged: u64,
    read: JoinHandle<Result<Item, ProtocolError>>,
}

enum Raw {
    Item(Item),
    Element(Box<RawValue>),
}

impl Source {
    /// Takes the call out; the stream is over then.
    fn take_calling(&mut self) -> Option<PendingCall> {
        match std::mem::replace(self, Self::Over(None)) {
            Self::Session(pending) | Self::Reading(pending, _) => Some(pending),
            Self::Array(_) | Self::Over(_) => None,
        }
    }
}

impl<T: DeserializeOwned> Items<T> {
    pub(super) fn new(begun: Begun, time: CallTimeout, client: Option<Arc<Inner>>) -> Result<Self, Error> {
        let source = match begun {
            Begun::Calling(pending) => Source::Session(pending),
            Begun::Response(response) => match request::elements(&response)? {
                Some(elements) => Source::Array(elements),
                None => Source::Over(Some(response)),
            },
            Begun::Sent => {
                return Err(Error::new(ErrorKind::Protocol, Outcome::Unknown, "the call was not answered"));
            }
        };
        let timer = time.deadline.map(|deadline| Box::pin(sleep_until(deadline.into())));
        Ok(Self { source, time, timer, _client: client, item: PhantomData })
    }

    /// Returns the next item, read as a `T`. Returns `None` after the last item, and after an error that ended the
    /// stream. An item that is not a `T` is an error that does not end it.
    ///
    /// # Errors
    ///
    /// - `Remote`: the method ended with an error.
    /// - `InvalidResult`: the item is not a `T`.
    /// - `Timeout`, `Disconnected`, `Protocol`, `TooLarge`: as for [`Client::request`](crate::tokio::Client::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next one returns the item.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Removes the deadline: the stream waits for items as long as they come.
    pub(super) fn without_limit(&mut self) {
        self.timer = None;
    }

    /// Returns the method's own result besides its items; most methods return null. Drops the items that were not read.
    ///
    /// # Errors
    ///
    /// The error that ended the stream, and `InvalidResult` if the result is not an `R`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn finish<R: DeserializeOwned>(mut self) -> Result<R, Error> {
        while let Some(item) = poll_fn(|context| self.poll_raw(context)).await {
            item?;
        }
        match &self.source {
            Source::Over(Some(response)) => request::result(response),
            _ => parse::result("null"),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        let next = ready!(self.poll_raw(context));
        Poll::Ready(next.map(|raw| match raw? {
            Raw::Item(item) => parse::result(item.payload().unwrap_or("null")),
            Raw::Element(element) => parse::result(element.get()),
        }))
    }

    fn poll_raw(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Raw, Error>>> {
        // Yield: a task that takes item after item must not keep the thread.
        let progress = ready!(coop::poll_proceed(context));
        let next = match &mut self.source {
            Source::Over(_) => Poll::Ready(None),
            Source::Array(elements) => {
                let next = elements.pop_front().map(|element| Ok(Raw::Element(element)));
                if next.is_none() {
                    self.source = Source::Over(None);
                }
                Poll::Ready(next)
            }
            Source::Session(_) | Source::Reading(..) => match self.poll_item(context) {
                Poll::Ready(Ok(item)) => Poll::Ready(Some(Ok(Raw::Item(item)))),
                Poll::Ready(Err(answer)) => Poll::Ready(self.end(answer).err().map(Err)),
                Poll::Pending => self.poll_time(context).map(|error| Some(Err(error))),
            },
        };
        if next.is_ready() {
            progress.made_progress();
        }
        next
    }

    /// Returns the next item of a session, inflated and checked; a large one on a thread for blocking work.
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Result<Item, CallEnd>> {
        loop {
            match &mut self.source {
                Source::Session(pending) => match ready!(pending.poll_item(context.waker()))? {
                    Received::Read(item) => return Poll::Ready(Ok(item)),
                    Received::Unread(item) if !flow::takes_time(item.size()) => {
                        return Poll::Ready(pending.read(item));
                    }
                    Received::Unread(item) => {
                        let charged = item.charged();
                        let reading = Reading { charged, read: spawn_blocking(move || item.read()) };
                        let Some(pending) = self.source.take_calling() else { continue };
                        self.source = Source::Reading(pending, reading);
                    }
                },
                Source::Reading(_, reading) => {
                    let read = ready!(Pin::new(&mut reading.read).poll(context));
                    let charged = reading.charged;
                    let Some(mut pending) = self.source.take_calling() else { continue };
                    let item = match read {
                        Ok(read) => pending.took(charged, read),
                        // It fails only when the runtime ends.
                        Err(_) => Err(CallEnd::Cancelled { sent: pending.cancel() }),
                    };
                    self.source = Source::Session(pending);
                    return Poll::Ready(item);
                }
                Source::Array(_) | Source::Over(_) => return Poll::Pending,
            }
        }
    }

    /// Ends the stream with `answer`.
    fn end(&mut self, answer: CallEnd) -> Result<(), Error> {
        let Some(pending) = self.source.take_calling() else { return Ok(()) };
        match request::answered(answer, pending.session())? {
            Response::Bad(bad) => Err(Error::refused(&bad)),
            response => {
                self.source = Source::Over(Some(response));
                Ok(())
            }
        }
    }

    fn poll_time(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(context));
        let Some(mut pending) = self.source.take_calling() else { return Poll::Pending };
        Poll::Ready(self.time.expired(pending.cancel()))
    }
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

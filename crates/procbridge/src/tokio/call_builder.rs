//! A builder for one call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::request::{self, CallOptions, ResultForm};
use crate::error::Error;
use crate::tokio::call_future::{CallFuture, Prepared, Sender};
use crate::tokio::caller::Caller;
use crate::tokio::inner::Inner;
use crate::tokio::item_stream::Items;

/// A builder for one call, see [`Client::call`](crate::tokio::Client::call) and
/// [`Session::call`](crate::tokio::Session::call).
#[must_use = "a call is made by `send`, `notify` or `stream`"]
pub struct CallBuilder<'a, P: ?Sized = ()> {
    via: Target<'a>,
    method: Option<&'a str>,
    payload: Option<&'a P>,
    options: CallOptions,
    fault: Option<Error>,
}

/// The client or session that makes the call.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Client(&'a Arc<Inner>),
    Session(&'a Caller),
}

impl<'a> CallBuilder<'a> {
    pub(super) fn new(via: Target<'a>, method: Option<&'a str>) -> Self {
        Self { via, method, payload: None, options: CallOptions::default(), fault: None }
    }
}

impl<'a, P: Serialize + ?Sized> CallBuilder<'a, P> {
    /// Sets the payload: anything that serde can write. Without one, or with null, the request has no payload.
    pub fn payload<Q: Serialize + ?Sized>(self, payload: &'a Q) -> CallBuilder<'a, Q> {
        let Self { via, method, options, fault, .. } = self;
        CallBuilder { via, method, payload: Some(payload), options, fault }
    }

    /// Sets the timeout of this call, in place of the client's setting. The server learns it, and can stop work that
    /// its caller no longer waits for. With zero the call ends at once, error kind `Timeout`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Adds an entry to the call's metadata, beside its payload. The handler reads it with
    /// [`Call::meta_value`](crate::Call::meta_value). Entries are sent in the order in which their keys were first
    /// given. Each keeps its text: a `RawValue` keeps its digits, its keys and their order. A second value of a key
    /// replaces the first. A value that JSON cannot express makes the call fail with `InvalidInput`.
    pub fn meta(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        if let Err(error) = self.options.meta.insert(key.into(), &value) {
            self.fault.get_or_insert(error);
        }
        self
    }

    /// Marks the call as idempotent: running it twice does no harm. It is then retried after a lost connection even if
    /// it may have run. Like any call, it is retried only if it has at most 64 KiB.
    pub fn idempotent(mut self) -> Self {
        self.options.is_idempotent = true;
        self
    }

    /// Sends the call and reads the answer as an `R`. This function serialises the payload, so the future borrows
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`](crate::tokio::Client::request).
    ///
    /// # Panics
    ///
    /// As [`Client::request`](crate::tokio::Client::request).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::request`](crate::tokio::Client::request).
    pub fn send<R: DeserializeOwned>(self) -> CallFuture<R> {
        CallFuture::of_result(self.prepare(ResultForm::Result))
    }

    /// Sends the call as a one-way call, see [`Client::notify`](crate::tokio::Client::notify).
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`](crate::tokio::Client::notify).
    ///
    /// # Panics
    ///
    /// As [`Client::request`](crate::tokio::Client::request).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::notify`](crate::tokio::Client::notify).
    pub fn notify(self) -> CallFuture<()> {
        CallFuture::of_notification(self.prepare(ResultForm::OneWay))
    }

    /// Sends the call and returns the items of its answer, see [`Client::stream`](crate::tokio::Client::stream).
    ///
    /// # Errors
    ///
    /// Those of [`Client::stream`](crate::tokio::Client::stream).
    ///
    /// # Panics
    ///
    /// As [`Client::request`](crate::tokio::Client::request).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::stream`](crate::tokio::Client::stream).
    pub fn stream<T: DeserializeOwned>(self) -> CallFuture<Items<T>> {
        CallFuture::of_stream(self.prepare(ResultForm::Stream))
    }

    fn prepare(mut self, form: ResultForm) -> Result<Prepared, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        request::check_time(&self.options)?;
        self.options.form = form;
        let Self { via, method, payload, options, .. } = self;
        let (config, by) = match via {
            Target::Client(client) => (&client.config, Sender::Client(client.clone())),
            Target::Session(session) => (&*session.config, Sender::Session(session.clone())),
        };
        let packet = request::packet(config, method, payload, &options)?;
        Ok(Prepared { by, options, packet })
    }
}

impl<P: ?Sized> fmt::Debug for CallBuilder<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, options, .. } = self;
        f.debug_struct("CallBuilder")
            .field("method", method)
            .field("options", options)
            .finish_non_exhaustive()
    }
}

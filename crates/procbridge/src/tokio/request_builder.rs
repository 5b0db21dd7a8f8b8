//! A call that is being put together.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions, ResultForm};
use crate::error::Error;
use crate::tokio::call_future::{CallFuture, Caller, Prepared};
use crate::tokio::client::Client;
use crate::tokio::flow::Begun;
use crate::tokio::item_stream::Items;
use crate::tokio::session::Session;

/// A call that is being put together, see [`Client::call`] and [`Session::call`].
pub struct RequestBuilder<'a, P: ?Sized = ()> {
    via: Target<'a>,
    method: Option<&'a str>,
    payload: Option<&'a P>,
    options: CallOptions,
    fault: Option<Error>,
}

/// What makes the call.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Client(&'a Client),
    Session(&'a Session),
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(via: Target<'a>, method: Option<&'a str>) -> Self {
        Self { via, method, payload: None, options: CallOptions::default(), fault: None }
    }
}

impl<'a, P: Serialize + ?Sized> RequestBuilder<'a, P> {
    /// The payload: anything that serde can write. Without it, or with one that is null, the request has none.
    pub fn payload<Q: Serialize + ?Sized>(self, payload: &'a Q) -> RequestBuilder<'a, Q> {
        let Self { via, method, options, fault, .. } = self;
        RequestBuilder { via, method, payload: Some(payload), options, fault }
    }

    /// How long this call may take, in place of the client's setting. The server is told, and need not work on when
    /// nobody waits. With zero it ends at once, error kind `Timeout`.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Sends an entry along with the call, beside its payload; the handler finds it with
    /// [`Call::meta_value`](crate::Call::meta_value). Entries go in the order in which their keys were first given, each
    /// as it was written: a `RawValue` keeps its digits, its keys and their order. A second value of a key replaces the
    /// first. A value that JSON cannot say makes the call fail with `InvalidInput`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        if let Err(error) = self.options.meta.insert(key.into(), &value) {
            self.fault.get_or_insert(error);
        }
        self
    }

    /// Says that running this call twice does no harm: it is sent again when its connection was lost and it is unknown
    /// whether it has run. Like any call, it is sent again only if it has at most 64 KiB.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.options.is_idempotent = true;
        self
    }

    /// Sends the call and reads the answer as an `R`. The future borrows nothing: the payload is written by this
    /// function.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`].
    ///
    /// # Panics
    ///
    /// As [`Client::request`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::request`].
    pub fn send<R: DeserializeOwned>(self) -> CallFuture<R> {
        CallFuture::of_result(self.prepare(ResultForm::Result))
    }

    /// Sends the call as one that is not answered, see [`Client::notify`].
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`].
    ///
    /// # Panics
    ///
    /// As [`Client::request`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::notify`].
    pub fn notify(self) -> CallFuture<()> {
        CallFuture::of_notification(self.prepare(ResultForm::OneWay))
    }

    /// Sends the call and reads the items of its answer, see [`Client::stream`].
    ///
    /// # Errors
    ///
    /// Those of [`Client::stream`].
    ///
    /// # Panics
    ///
    /// As [`Client::request`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::stream`].
    pub fn stream<T: DeserializeOwned>(self) -> CallFuture<Items<T>> {
        CallFuture::of_stream(self.prepare(ResultForm::Stream))
    }

    /// Sends the call on a session, which is opened for it if there is none, within `time`. It has no limit of its own.
    pub(super) fn begin_session_stream(
        mut self,
        time: CallTimeout,
    ) -> impl Future<Output = Result<Begun, Error>> + Send + use<P> {
        self.options.needs_session = true;
        let made = self.prepare(ResultForm::Stream);
        async move {
            let Prepared { by, options, packet } = made?;
            match by {
                Caller::Client(client) => client.begin_within(time, &options, packet).await,
                Caller::Session(session) => session.begin(&options, packet).await.map(|(begun, _)| begun),
            }
        }
    }

    fn prepare(mut self, form: ResultForm) -> Result<Prepared, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        request::check_time(&self.options)?;
        self.options.form = form;
        let Self { via, method, payload, options, .. } = self;
        let (config, by) = match via {
            Target::Client(client) => (&client.inner.config, Caller::Client(client.inner.clone())),
            Target::Session(session) => (&*session.config, Caller::Session(session.clone())),
        };
        let packet = request::packet(config, method, payload, &options)?;
        Ok(Prepared { by, options, packet })
    }
}

impl<P: ?Sized> fmt::Debug for RequestBuilder<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, options, .. } = self;
        f.debug_struct("RequestBuilder")
            .field("method", method)
            .field("style", options)
            .finish_non_exhaustive()
    }
}

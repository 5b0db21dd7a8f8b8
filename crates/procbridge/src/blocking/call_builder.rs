//! A builder for one call.

use std::fmt;
use std::time::Duration;

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::caller::Caller;
use crate::blocking::flow::Begun;
use crate::blocking::inner::Inner;
use crate::blocking::item_stream::Items;
use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions, ResultForm};
use crate::config::client::ClientConfig;
use crate::error::{Error, ErrorKind, Outcome};

/// A builder for one call, see [`Client::call`](crate::Client::call) and [`Session::call`](crate::Session::call).
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
    Client(&'a Inner),
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
    /// it may have run.
    pub fn idempotent(mut self) -> Self {
        self.options.is_idempotent = true;
        self
    }

    /// Sends the call and reads the answer as an `R`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`](crate::Client::request).
    ///
    /// # Blocking
    ///
    /// As [`Client::request`](crate::Client::request).
    pub fn send<R: DeserializeOwned>(self) -> Result<R, Error> {
        match self.run()? {
            Some(response) => request::into_result(response),
            None => Err(Error::new(ErrorKind::Protocol, Outcome::Unknown, "the call was not answered")),
        }
    }

    /// Sends the call as a one-way call, see [`Client::notify`](crate::Client::notify).
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`](crate::Client::notify).
    ///
    /// # Blocking
    ///
    /// As [`Client::notify`](crate::Client::notify).
    pub fn notify(mut self) -> Result<(), Error> {
        self.options.form = ResultForm::OneWay;
        self.run().map(drop)
    }

    /// Sends the call and returns the items of its answer, see [`Client::stream`](crate::Client::stream).
    ///
    /// # Errors
    ///
    /// Those of [`Client::stream`](crate::Client::stream).
    ///
    /// # Blocking
    ///
    /// As [`Client::stream`](crate::Client::stream).
    pub fn stream<T: DeserializeOwned>(self) -> Result<Items<T>, Error> {
        let (begun, time) = self.begin_stream()?;
        Items::new(begun, time)
    }

    fn begin_stream(mut self) -> Result<(Begun, CallTimeout), Error> {
        self.options.form = ResultForm::Stream;
        self.begin()
    }

    /// Sends the call on the session, within `time`; opens a session if there is none. The stream has no timeout of its
    /// own.
    pub(super) fn begin_session_stream(mut self, time: CallTimeout) -> Result<Begun, Error> {
        (self.options.form, self.options.needs_session) = (ResultForm::Stream, true);
        self.check()?;
        let Self { via, method, payload, options, .. } = &self;
        let make = || request::packet(via.config(), *method, *payload, options);
        match via {
            Target::Client(client) => client.begin_within(time, options, make),
            Target::Session(session) => session.begin(options, make()?).map(|(begun, _)| begun),
        }
    }

    fn begin(mut self) -> Result<(Begun, CallTimeout), Error> {
        self.check()?;
        let Self { via, method, payload, options, .. } = &self;
        let make = || request::packet(via.config(), *method, *payload, options);
        match via {
            Target::Client(client) => client.begin(options, make),
            Target::Session(session) => session.begin(options, make()?),
        }
    }

    fn run(mut self) -> Result<Option<Response>, Error> {
        self.check()?;
        let Self { via, method, payload, options, .. } = &self;
        let make = || -> Result<Packet, Error> { request::packet(via.config(), *method, *payload, options) };
        match via {
            Target::Client(client) => client.run(options, make),
            Target::Session(session) => session.run(options, make()?),
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        self.fault.take().map_or(Ok(()), Err)?;
        request::check_time(&self.options)
    }
}

impl Target<'_> {
    fn config(&self) -> &ClientConfig {
        match self {
            Self::Client(client) => &client.config,
            Self::Session(session) => &session.config,
        }
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

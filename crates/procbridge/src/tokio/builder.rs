//! A call that is being put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;

use crate::error::{Error, ErrorKind, Outcome};
use crate::outgoing::CallTime;
use crate::request::{self, Form, Style};
use crate::tokio::calls::{Inner, Reached};
use crate::tokio::client::Client;
use crate::tokio::items::Items;
use crate::tokio::session::Session;

/// A call that is being put together, see [`Client::call`] and [`Session::call`].
pub struct RequestBuilder<'a, P: ?Sized = ()> {
    via: Via<'a>,
    method: Option<&'a str>,
    payload: Option<&'a P>,
    style: Style,
    fault: Option<Error>,
}

/// What makes the call.
#[derive(Clone, Copy)]
pub(super) enum Via<'a> {
    Client(&'a Client),
    Session(&'a Session),
}

/// A call that is ready to be made, and borrows nothing.
struct Made {
    by: By,
    style: Style,
    packet: Packet,
}

enum By {
    Client(Arc<Inner>),
    Session(Session),
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(via: Via<'a>, method: Option<&'a str>) -> Self {
        Self { via, method, payload: None, style: Style::default(), fault: None }
    }
}

impl<'a, P: Serialize + ?Sized> RequestBuilder<'a, P> {
    /// The payload: anything that serde can write. Without it, or with one that is null, the request has none.
    pub fn payload<Q: Serialize + ?Sized>(self, payload: &'a Q) -> RequestBuilder<'a, Q> {
        let Self { via, method, style, fault, .. } = self;
        RequestBuilder { via, method, payload: Some(payload), style, fault }
    }

    /// How long this call may take, in place of the client's setting. The server is told, and need not work on when
    /// nobody waits.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.style.timeout = Some(limit);
        self
    }

    /// Sends an entry along with the call, beside its payload; the handler finds it with
    /// [`Call::meta_value`](crate::Call::meta_value). A value that is no JSON makes the call fail with `InvalidInput`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => {
                self.style.meta.get_or_insert_with(Map::new).insert(key.into(), value);
            }
            Err(error) => self.fault = Some(Error::unsendable(error)),
        }
        self
    }

    /// Says that running this call twice does no harm: it is sent again when its connection was lost and it is unknown
    /// whether it has run. Like any call, it is sent again only if it has at most 64 KiB.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.style.is_idempotent = true;
        self
    }

    /// Sends the call and reads the answer as an `R`. The future borrows nothing, so it can be spawned as it is.
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
    pub fn send<R: DeserializeOwned>(self) -> impl Future<Output = Result<R, Error>> + Send + use<P, R> {
        let made = self.make(Form::Result);
        async move {
            let Made { by, style, packet } = made?;
            let answered = match by {
                By::Client(client) => client.run(&style, packet).await?,
                By::Session(session) => session.run(&style, packet).await?,
            };
            match answered {
                Some(response) => request::into_result(response),
                None => Err(Error::new(ErrorKind::Protocol, Outcome::Unknown, "the call was not answered")),
            }
        }
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
    pub fn notify(self) -> impl Future<Output = Result<(), Error>> + Send + use<P> {
        let made = self.make(Form::OneWay);
        async move { made?.run().await.map(drop) }
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
    pub fn stream<T: DeserializeOwned>(
        self,
    ) -> impl Future<Output = Result<Items<T>, Error>> + Send + use<P, T> {
        let client = match self.via {
            Via::Client(client) => Some(client.inner.clone()),
            Via::Session(_) => None,
        };
        let begun = self.begin_stream();
        async move {
            let (reached, time) = begun.await?;
            Items::new(reached, time, client)
        }
    }

    fn begin_stream(self) -> impl Future<Output = Result<(Reached, CallTime), Error>> + Send + use<P> {
        let made = self.make(Form::Stream);
        async move { made?.begin().await }
    }

    /// Sends the call on a session, which is opened for it if there is none, within `time`. It has no limit of its own.
    pub(super) fn begin_session_stream(
        mut self,
        time: CallTime,
    ) -> impl Future<Output = Result<Reached, Error>> + Send + use<P> {
        self.style.needs_session = true;
        let made = self.make(Form::Stream);
        async move {
            let Made { by, style, packet } = made?;
            match by {
                By::Client(client) => client.begin_within(time, &style, packet).await,
                By::Session(session) => session.begin(&style, packet).await.map(|(reached, _)| reached),
            }
        }
    }

    fn make(mut self, form: Form) -> Result<Made, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.style.form = form;
        let Self { via, method, payload, style, .. } = self;
        let (config, by) = match via {
            Via::Client(client) => (&client.inner.config, By::Client(client.inner.clone())),
            Via::Session(session) => (&*session.config, By::Session(session.clone())),
        };
        let packet = request::packet(config, method, payload, &style)?;
        Ok(Made { by, style, packet })
    }
}

impl Made {
    async fn run(self) -> Result<Option<Response>, Error> {
        let Self { by, style, packet } = self;
        match by {
            By::Client(client) => client.run(&style, packet).await,
            By::Session(session) => session.run(&style, packet).await,
        }
    }

    async fn begin(self) -> Result<(Reached, CallTime), Error> {
        let Self { by, style, packet } = self;
        match by {
            By::Client(client) => client.begin(&style, packet).await,
            By::Session(session) => session.begin(&style, packet).await,
        }
    }
}

impl<P: ?Sized> fmt::Debug for RequestBuilder<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, style, .. } = self;
        f.debug_struct("RequestBuilder").field("method", method).field("style", style).finish_non_exhaustive()
    }
}

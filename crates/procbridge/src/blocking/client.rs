//! Calls: one connection each, as classic ProcBridge has it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::stream::{Readiness, Stream};
use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::outgoing::Outgoing;
use crate::request;

/// Calls a server's methods. Clones are the same client; all of them can be used by any number of threads at a time.
///
/// ```no_run
/// use procbridge::Client;
///
/// let client = Client::connect("unix:/run/app.sock")?;
/// let sum: i64 = client.request("sum", &[1, 2, 3])?;
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    config: ClientConfig,
}

/// A call that is being put together, see [`Client::call`].
pub struct RequestBuilder<'a, P: ?Sized = ()> {
    client: &'a Client,
    method: Option<&'a str>,
    payload: Option<&'a P>,
    timeout: Option<Duration>,
}

impl Client {
    /// A client of the server at `endpoint`, with the default settings.
    ///
    /// No connection is opened yet: a classic server gives each call a connection of its own, and some die of a
    /// connection without a call. Whether a server is there shows with the first call.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong.
    pub fn connect<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::connect_with(endpoint, ClientConfig::default())
    }

    /// The same with other settings.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong, or its port is 0.
    pub fn connect_with<E>(endpoint: E, config: ClientConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let endpoint = endpoint.try_into()?;
        request::check_endpoint(&endpoint)?;
        Ok(Self { inner: Arc::new(Inner { endpoint, config }) })
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls `method` with `payload` and reads the answer as an `R`. A null answer is a `()`, an `Option` or a
    /// `Value`; `Box<RawValue>` is the answer's text exactly as it was sent.
    ///
    /// # Errors
    ///
    /// - `Remote`: the server answered with an error, which is in [`Error::remote`].
    /// - `Connect`, `Denied`: the server cannot be reached; nothing was sent.
    /// - `Timeout`: a time limit passed; [`Error::outcome`] tells whether the call was sent.
    /// - `Disconnected`: the connection was lost before the answer; the call may have run.
    /// - `Protocol`, `TooLarge`: the answer breaks a rule or a limit.
    /// - `InvalidInput`: the payload cannot be sent: not serialisable as JSON, or over a limit.
    /// - `InvalidResult`: the answer is not an `R`.
    ///
    /// # Blocking
    ///
    /// Until the answer is there, at most for the [call's time limit](ClientConfig::with_call_timeout). It may be
    /// called inside an async runtime, whose thread it then holds; `procbridge::tokio` does not.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<R, Error>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Begins a call that has settings of its own.
    ///
    /// ```no_run
    /// # let client = procbridge::Client::connect(":8000")?;
    /// use std::time::Duration;
    ///
    /// let n: i64 = client.call("sum").payload(&[1, 2, 3]).timeout(Duration::from_millis(200)).send()?;
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    pub fn call<'a>(&'a self, method: &'a str) -> RequestBuilder<'a> {
        RequestBuilder { client: self, method: Some(method), payload: None, timeout: None }
    }

    /// Begins a call that names no method, which the protocol allows.
    pub fn call_without_method(&self) -> RequestBuilder<'_> {
        RequestBuilder { client: self, method: None, payload: None, timeout: None }
    }

    fn exchange(&self, packet: Packet, timeout: Option<Duration>) -> Result<Response, Error> {
        let Inner { endpoint, config } = &*self.inner;
        let outgoing = Outgoing::new(config, packet, timeout)?;
        let stream = Stream::connect(endpoint, outgoing.connect_deadline)?;
        Exchange { stream, outgoing }.run()
    }
}

impl<'a, P: Serialize + ?Sized> RequestBuilder<'a, P> {
    /// The payload: anything that serde can write. Without it, or with one that is null, the request has none.
    pub fn payload<Q: Serialize + ?Sized>(self, payload: &'a Q) -> RequestBuilder<'a, Q> {
        let Self { client, method, timeout, .. } = self;
        RequestBuilder { client, method, payload: Some(payload), timeout }
    }

    /// How long this call may take, in place of the client's setting. The server is told, and need not work on when
    /// nobody waits.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Sends the call and reads the answer as an `R`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`].
    ///
    /// # Blocking
    ///
    /// As [`Client::request`].
    pub fn send<R: DeserializeOwned>(self) -> Result<R, Error> {
        let config = &self.client.inner.config;
        let packet = request::packet(config, self.method, self.payload, self.timeout)?;
        let response = self.client.exchange(packet, self.timeout)?;
        request::result(&response)
    }
}

impl<P: ?Sized> fmt::Debug for RequestBuilder<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, timeout, .. } = self;
        f.debug_struct("RequestBuilder")
            .field("method", method)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// One call on its connection.
struct Exchange {
    stream: Stream,
    outgoing: Outgoing,
}

impl Exchange {
    fn run(mut self) -> Result<Response, Error> {
        // The request: usually one write. A server that refuses it may answer before it has read all of it.
        while !self.outgoing.transmit().is_empty() {
            match self.stream.write(self.outgoing.transmit()) {
                Ok(0) => {
                    self.wait(Readiness::Either)?;
                    if let Some(response) = self.read()? {
                        return Ok(response);
                    }
                }
                Ok(count) => self.outgoing.transmitted(count),
                Err(error) => {
                    // The server reads no more; what it said before that may be here.
                    return match self.read() {
                        Ok(Some(response)) => Ok(response),
                        _ => Err(self.outgoing.lost(error)),
                    };
                }
            }
        }
        // Small answers from a near server are not there yet: waiting first saves a read that finds nothing.
        loop {
            self.wait(Readiness::Read)?;
            if let Some(response) = self.read()? {
                return Ok(response);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Response>, Error> {
        let stream = &self.stream;
        self.outgoing.read(|buffer| stream.read(buffer))
    }

    fn wait(&self, readiness: Readiness) -> Result<(), Error> {
        match self.stream.wait(readiness, self.outgoing.deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.outgoing.timed_out()),
            Err(error) => Err(self.outgoing.lost(error)),
        }
    }
}

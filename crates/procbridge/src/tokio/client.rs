//! Calls: one connection each, as classic ProcBridge has it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::outgoing::Outgoing;
use crate::request;
use crate::tokio::stream::{Readiness, Stream, within};

/// Calls a server's methods. Clones are the same client; all of them can be used by any number of tasks at a time.
///
/// ```no_run
/// use procbridge::tokio::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procbridge::Error> {
/// let client = Client::connect("unix:/run/app.sock")?;
/// let sum: i64 = client.request("sum", &[1, 2, 3]).await?;
/// # Ok(())
/// # }
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
    /// The payload is written by this function, not by the future, which may be sent to another thread whatever the
    /// payload is. The call's time begins with the first poll.
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
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection and leaves nothing behind. What the server sees of it depends on how
    /// far the call had come: nothing; a connection that ends without a request, or in the middle of one, and runs
    /// nothing; or a whole request, which runs to its end while its answer finds nobody. So a call that was dropped
    /// after its first poll may have run.
    pub fn request<R>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> impl Future<Output = Result<R, Error>> + Send
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Begins a call that has settings of its own.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// # let client = procbridge::tokio::Client::connect(":8000")?;
    /// use std::time::Duration;
    ///
    /// let n: i64 = client.call("sum").payload(&[1, 2, 3]).timeout(Duration::from_millis(200)).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<'a>(&'a self, method: &'a str) -> RequestBuilder<'a> {
        RequestBuilder { client: self, method: Some(method), payload: None, timeout: None }
    }

    /// Begins a call that names no method, which the protocol allows.
    pub fn call_without_method(&self) -> RequestBuilder<'_> {
        RequestBuilder { client: self, method: None, payload: None, timeout: None }
    }
}

impl Inner {
    async fn exchange(&self, packet: Packet, timeout: Option<Duration>) -> Result<Response, Error> {
        let outgoing = Outgoing::new(&self.config, packet, timeout)?;
        let stream = Stream::connect(&self.endpoint, outgoing.connect_deadline).await?;
        Exchange { stream, outgoing }.run().await
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
        let Self { client, method, payload, timeout } = self;
        let inner = client.inner.clone();
        let packet = request::packet(&inner.config, method, payload, timeout);
        async move { request::result(&inner.exchange(packet?, timeout).await?) }
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
    async fn run(mut self) -> Result<Response, Error> {
        // The request: usually one write. A server that refuses it may answer before it has read all of it.
        while !self.outgoing.transmit().is_empty() {
            match self.stream.write(self.outgoing.transmit()) {
                Ok(0) => {
                    self.wait(Readiness::Either).await?;
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
            self.wait(Readiness::Read).await?;
            if let Some(response) = self.read()? {
                return Ok(response);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Response>, Error> {
        let stream = &self.stream;
        self.outgoing.read(|buffer| stream.read(buffer))
    }

    async fn wait(&mut self, readiness: Readiness) -> Result<(), Error> {
        match within(self.outgoing.deadline, self.stream.wait(readiness)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.outgoing.lost(error)),
            None => Err(self.outgoing.timed_out()),
        }
    }
}

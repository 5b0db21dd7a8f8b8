//! The client: calls as users make them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::call_builder::{CallBuilder, Target};
use crate::blocking::inner::Inner;
use crate::blocking::item_stream::Items;
use crate::blocking::router::Router;
use crate::blocking::subscription::Subscription;
use crate::classic::client::CallTimeout;
use crate::client::request;
use crate::config::client::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// A client that calls a server's methods. Clones are the same client; any number of threads may use them at a time.
///
/// ```no_run
/// use procbridge::Client;
///
/// let client = Client::connect("unix:/run/app.sock")?;
/// let sum: i64 = client.request("sum", &[1, 2, 3])?;
/// # Ok::<(), procbridge::Error>(())
/// ```
///
/// A server that supports sessions gives the client one with its first call: one connection for all further calls, in
/// both directions. Any other server gets a connection for each call. The client behaves the same with both. It needs
/// no thread of its own: one of the threads that wait for answers reads for all of them.
///
/// A session belongs to the process that opened it. Create clients after a `fork`: a copy of the parent's client in the
/// child may receive the parent's answers.
#[derive(Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

impl Client {
    /// Returns a client of the server at `endpoint`, with the default settings, after the server has answered a
    /// `$/ping`. A server that does not know this method, as a classic one, answers too.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and those of [`request`](Self::request): no server listens there, or it refuses
    /// this client.
    ///
    /// # Blocking
    ///
    /// Until the server answers, at most for the [call timeout](ClientConfig::with_call_timeout).
    pub fn connect<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::connect_with(endpoint, ClientConfig::default())
    }

    /// Returns a client of the server at `endpoint`, with the settings in `config`, after the server has answered. See
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// Those of [`with_config`](Self::with_config) and [`request`](Self::request).
    ///
    /// # Blocking
    ///
    /// Until the server answers, at most for the [call timeout](ClientConfig::with_call_timeout).
    pub fn connect_with<E>(endpoint: E, config: ClientConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let client = Self::with_config(endpoint, config)?;
        request::reached(client.call("$/ping").send())?;
        Ok(client)
    }

    /// Returns a client of the server at `endpoint`, with the default settings.
    ///
    /// Opens no connection yet: the first call does, and shows whether a server listens there. So the server may be
    /// started later than its client.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong.
    pub fn new<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::with_config(endpoint, ClientConfig::default())
    }

    /// Returns a client of the server at `endpoint`, with the settings in `config`.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong, or its port is 0.
    /// - `InvalidInput`: a setting has a value with which no call could succeed.
    pub fn with_config<E>(endpoint: E, config: ClientConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let endpoint = endpoint.try_into()?.checked()?;
        request::check_endpoint(&endpoint)?;
        config.check()?;
        Ok(Self { inner: Inner::new(endpoint, config) })
    }

    /// Returns the server's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls `method` with `payload` and reads the answer as an `R`. A null answer is read as `()`, `Option` or
    /// `Value`. `Box<RawValue>` keeps the answer's text exactly as it was sent.
    ///
    /// Retries a call on a new connection, within the call's timeout, if the server certainly did not run it. That is
    /// so if its connection ended first, or the server was stopping.
    ///
    /// # Errors
    ///
    /// - `Remote`: the server answered with an error, which is in [`Error::remote`].
    /// - `Connect`, `Denied`: the server cannot be reached; nothing was sent.
    /// - `Timeout`: the call's timeout passed; [`Error::outcome`] tells whether the call was sent. A server with a
    ///   session is told that the caller no longer waits.
    /// - `Disconnected`: the connection was lost before the answer; the call may have run.
    /// - `Protocol`, `TooLarge`: the answer breaks a rule or a limit.
    /// - `InvalidInput`: the payload cannot be sent: not serialisable as JSON, or over a limit.
    /// - `InvalidResult`: the answer is not an `R`.
    ///
    /// # Blocking
    ///
    /// Until the answer arrives, at most for the [call timeout](ClientConfig::with_call_timeout). It may be called in
    /// an async runtime, but blocks the thread; `procbridge::tokio` does not.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<R, Error>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a one-way call, which is not answered, and does not wait for the server to read it. The caller cannot know
    /// whether it ran. A classic server answers it, and the client drops the answer.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request) that can occur before an answer.
    ///
    /// # Blocking
    ///
    /// Until the operating system has taken the call. The first call to a server waits until the server has accepted or
    /// declined a session.
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with a stream of items, and reads each as a `T`.
    ///
    /// Flow control: the server sends only as many items as the client [asks for](ClientConfig::with_stream_window). A
    /// slow reader causes backpressure on this method and on no other call. Dropping the stream cancels the call. If a
    /// server without sessions answers with an array, the stream yields its elements.
    ///
    /// ```no_run
    /// # let client = procbridge::Client::connect(":8000")?;
    /// for line in client.stream::<String>("logs.tail", "app.log")? {
    ///     println!("{}", line?);
    /// }
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); an error of the method itself arrives with the items.
    ///
    /// # Blocking
    ///
    /// Until the call is sent. The default call timeout does not apply to streams; a timeout that is
    /// [set](CallBuilder::timeout) covers the whole stream. If the server accepts the first connection and stays
    /// silent, the first call waits no longer than a call's timeout.
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Items<T>, Error> {
        self.call(method).payload(payload).stream()
    }

    /// Subscribes to the events that the server publishes under `topics`. In a topic `*` stands for one segment between
    /// dots, and at the end for all segments that follow.
    ///
    /// Reconnects after a lost connection, for as long as the subscription lives. The next event then tells that events
    /// may have been [missed](crate::Event::missed).
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request). `Protocol` if the server holds no sessions. `InvalidInput` if there is no
    /// topic, or one has an empty segment, a `*` within a segment, or over 256 bytes.
    ///
    /// # Blocking
    ///
    /// Until the subscription is active: no event published after that is missed.
    pub fn subscribe<I, S>(&self, topics: I) -> Result<Subscription, Error>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Subscription::begin(&self.inner, topics.into_iter().map(Into::into).collect())
    }

    /// Begins a call with settings of its own.
    ///
    /// ```no_run
    /// # let client = procbridge::Client::connect(":8000")?;
    /// use std::time::Duration;
    ///
    /// let n: i64 = client.call("sum").payload(&[1, 2, 3]).timeout(Duration::from_millis(200)).send()?;
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    pub fn call<'a>(&'a self, method: &'a str) -> CallBuilder<'a> {
        CallBuilder::new(Target::Client(&self.inner), Some(method))
    }

    /// Begins a call without a method name, which the protocol allows.
    pub fn call_without_method(&self) -> CallBuilder<'_> {
        CallBuilder::new(Target::Client(&self.inner), None)
    }

    /// Cancels all calls of this client that are in flight in its session, on all threads, and tells the server so.
    /// They end with the error kind `Timeout`: at once, or within 0.3 s if the server is silent. Calls on connections
    /// of their own, as a server without sessions gets them, go on until they are answered or time out.
    pub fn cancel_calls(&self) {
        if let Some(session) = self.inner.session() {
            session.cancel_calls();
        }
    }

    /// Serves the methods of `router` to the server, which calls them with [`Call::session`](crate::Call::session).
    /// From now on a thread of the library keeps a session open, until the last clone of this client is dropped.
    ///
    /// # Errors
    ///
    /// - `Connect`, `Denied`, `Timeout`, `Disconnected`: the server cannot be reached.
    /// - `Protocol`: the server does not support sessions.
    /// - `InvalidInput`: this client already serves a router.
    /// - `Io`: the operating system cannot start a thread.
    ///
    /// # Blocking
    ///
    /// Until a session is open.
    pub fn serve<S: Send + Sync + 'static>(&self, router: Router<S>) -> Result<(), Error> {
        let router = router.without_state();
        match &mut *self.inner.router() {
            Some(_) => {
                return Err(Error::unsent(
                    ErrorKind::InvalidInput,
                    "this client already serves a router (call serve once)",
                ));
            }
            none => {
                self.inner.admission.set_streams(&router.routes.streams());
                *none = Some(Arc::new(router));
            }
        }
        // A session opened before has told the server that it takes no calls.
        if let Some(session) = self.inner.current.session() {
            session.goodbye("replaced by a session that serves calls");
        }
        let time = CallTimeout::new(self.inner.config.inactivity_timeout());
        let session = self.inner.open_session(time).inspect_err(|_| {
            // Reset, so that the caller may try again.
            *self.inner.router() = None;
        })?;
        self.inner.keep_open.start(&session);
        self.inner.greet();
        if !self.inner.session().is_some_and(|now| Arc::ptr_eq(&now, &session)) {
            self.inner.keep_open();
        }
        Ok(())
    }

    /// Sets a callback that runs for each new session of a client that [serves](Self::serve). It runs at the end of
    /// `serve`, and on a thread of the library after each reconnect. A server that calls its clients knows them by
    /// their sessions; here a client can tell the server its name. Replaces an earlier callback.
    ///
    /// ```no_run
    /// # use procbridge::{Client, Router};
    /// let client = Client::connect("unix:/run/app.sock")?;
    /// client.on_session(|client| {
    ///     if let Err(error) = client.request::<()>("register", &()) {
    ///         eprintln!("cannot register: {error}");
    ///     }
    /// });
    /// client.serve(Router::new().method("alert", |text: String| eprintln!("{text}")))?;
    /// # Ok::<(), procbridge::Error>(())
    /// ```
    pub fn on_session(&self, greet: impl Fn(&Client) + Send + Sync + 'static) {
        self.inner.greeting().0 = Some(Arc::new(move |inner| greet(&Self { inner })));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

//! Calls as users make them.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::inner::Inner;
use crate::blocking::item_stream::Items;
use crate::blocking::request_builder::{RequestBuilder, Target};
use crate::blocking::router::Router;
use crate::blocking::subscription::Subscription;
use crate::classic::client::CallTimeout;
use crate::client::request;
use crate::config::client::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// Calls a server's methods. Clones are the same client; all of them can be used by any number of threads at a time.
///
/// ```no_run
/// use procbridge::Client;
///
/// let client = Client::connect("unix:/run/app.sock")?;
/// let sum: i64 = client.request("sum", &[1, 2, 3])?;
/// # Ok::<(), procbridge::Error>(())
/// ```
///
/// A server that can gives the client a session with its first call: one connection for all further calls, in both
/// directions. Any other server gets a connection for each call. A client makes no difference between them, and needs no
/// thread of its own: among the threads that wait for answers one reads for all.
///
/// A session belongs to the process that opened it. Make clients after a `fork`: in the child a copy of the parent's client
/// may get the parent's answers.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
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
    /// - `InvalidInput`: a setting is one under which nothing could work.
    pub fn connect_with<E>(endpoint: E, config: ClientConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let endpoint = endpoint.try_into()?.checked()?;
        request::check_endpoint(&endpoint)?;
        config.check()?;
        Ok(Self { inner: Inner::new(endpoint, config) })
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls `method` with `payload` and reads the answer as an `R`. A null answer is a `()`, an `Option` or a
    /// `Value`; `Box<RawValue>` is the answer's text exactly as it was sent.
    ///
    /// A call that the server certainly did not run, because its connection ended first or the server was stopping, is
    /// sent again on a new connection, within the call's time.
    ///
    /// # Errors
    ///
    /// - `Remote`: the server answered with an error, which is in [`Error::remote`].
    /// - `Connect`, `Denied`: the server cannot be reached; nothing was sent.
    /// - `Timeout`: a time limit passed; [`Error::outcome`] tells whether the call was sent. The server is told that
    ///   nobody waits any more, if it holds a session.
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

    /// Sends a call that is not answered, and does not wait for the server to have read it. Whether it runs is not known;
    /// a classic server answers it, and the answer is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request) that can happen before an answer.
    ///
    /// # Blocking
    ///
    /// Until the call is handed to the system. The first call to a server waits until the server has shown whether it
    /// holds a session.
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with a stream of items, each read as a `T`.
    ///
    /// The server sends only as many items as are [asked for](ClientConfig::with_stream_window); a slow reader slows the
    /// method down and nobody else. Dropping the stream cancels the call. A server without sessions that answers with an
    /// array is read as one that streams its elements.
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
    /// Those of [`request`](Self::request); an error of the method itself comes with the items.
    ///
    /// # Blocking
    ///
    /// Until the call is sent. The default time limit of a call does not hold for streams; one that is
    /// [set](RequestBuilder::timeout) holds for the whole of it. The first call waits for a server that accepts and says nothing
    /// no longer than a call may take.
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Items<T>, Error> {
        self.call(method).payload(payload).stream()
    }

    /// Subscribes to the events that the server publishes under `topics`. In a topic `*` stands for one segment between
    /// dots, and at the end for all that follows.
    ///
    /// A lost connection is made again, for as long as the subscription lives, and the next event says that some may have
    /// been [missed](crate::Event::missed).
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); `Protocol` if the server holds no sessions.
    ///
    /// # Blocking
    ///
    /// Until the subscription is in force: what is published from then on is not missed.
    pub fn subscribe<I, S>(&self, topics: I) -> Result<Subscription, Error>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Subscription::begin(&self.inner, topics.into_iter().map(Into::into).collect())
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
        RequestBuilder::new(Target::Client(&self.inner), Some(method))
    }

    /// Begins a call that names no method, which the protocol allows.
    pub fn call_without_method(&self) -> RequestBuilder<'_> {
        RequestBuilder::new(Target::Client(&self.inner), None)
    }

    /// Gives up all calls of this client that are in flight in its session, whichever threads wait for them, and tells the
    /// server that nobody waits. Those end with the error kind `Timeout`: at once, or, where the server says nothing any
    /// more, within 0.3 s. Calls on connections of their own, as a server without sessions gets them, go on; only their
    /// time limits end them.
    pub fn cancel_calls(&self) {
        if let Some(session) = self.inner.session() {
            session.cancel_calls();
        }
    }

    /// Serves the methods of `router` to the server, which calls them with
    /// [`Call::session`](crate::Call::session). A thread of the library keeps a session open for it from now on, until
    /// the last clone of this client is dropped.
    ///
    /// # Errors
    ///
    /// - `Connect`, `Denied`, `Timeout`, `Disconnected`: the server cannot be reached.
    /// - `Protocol`: it holds no sessions.
    /// - `InvalidInput`: this client serves already.
    /// - `Io`: the system gives no thread.
    ///
    /// # Blocking
    ///
    /// Until there is a session.
    pub fn serve(&self, router: Router) -> Result<(), Error> {
        match &mut *self.inner.router() {
            Some(_) => return Err(Error::unsent(ErrorKind::InvalidInput, "this client serves already")),
            none => {
                self.inner.admission.set_streams(&router.routes.streams());
                *none = Some(Arc::new(router));
            }
        }
        // One that was opened before told the server that it takes no calls.
        if let Some(session) = self.inner.current.session() {
            session.goodbye("a session that serves takes its place");
        }
        let time = CallTimeout::new(self.inner.config.patience());
        let session = self.inner.open_session(time).inspect_err(|_| {
            // It may be tried again.
            *self.inner.router() = None;
        })?;
        self.inner.keeping.start(&session);
        self.inner.greet();
        if !self.inner.session().is_some_and(|now| Arc::ptr_eq(&now, &session)) {
            self.inner.keep_open();
        }
        Ok(())
    }

    /// Has `greet` run each time this client, as one that [serves](Self::serve), has a new session: the first time at the
    /// end of `serve`, and again whenever the session was lost and made anew, on a thread of the library. A server that
    /// calls its clients knows them by their sessions; here they tell it who they are. Takes the place of one that was
    /// set before.
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

//! The client: calls as users make them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::request;
use crate::config::client::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::tokio::background;
use crate::tokio::call_builder::{CallBuilder, Target};
use crate::tokio::call_future::CallFuture;
use crate::tokio::clock;
use crate::tokio::inner::Inner;
use crate::tokio::item_stream::Items;
use crate::tokio::router::Router;
use crate::tokio::subscription::Subscription;

/// A client that calls a server's methods. Clones are the same client; any number of tasks may use them at a time.
///
/// ```no_run
/// use procbridge::tokio::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procbridge::Error> {
/// let client = Client::connect("unix:/run/app.sock").await?;
/// let sum: i64 = client.request("sum", &[1, 2, 3]).await?;
/// # Ok(())
/// # }
/// ```
///
/// A server that supports sessions gives the client one with its first call: one connection for all further calls, in
/// both directions. Any other server gets a connection for each call. The client behaves the same with both. A session
/// has a task in the runtime of the call that opened it. It ends with that runtime, and with the last clone of its
/// client. So a client belongs to one runtime: calls from another one wait until the first drives its tasks. A
/// single-threaded runtime does that only inside `block_on`.
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
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the client.
    pub async fn connect<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::connect_with(endpoint, ClientConfig::default()).await
    }

    /// Returns a client of the server at `endpoint`, with the settings in `config`, after the server has answered. See
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// Those of [`with_config`](Self::with_config) and [`request`](Self::request).
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the client.
    pub async fn connect_with<E>(endpoint: E, config: ClientConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        let client = Self::with_config(endpoint, config)?;
        request::reached(client.call("$/ping").send().await)?;
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
        Ok(Self { inner: Arc::new(Inner::new(endpoint, config)) })
    }

    /// Returns the server's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls `method` with `payload` and reads the answer as an `R`. A null answer is read as `()`, `Option` or
    /// `Value`. `Box<RawValue>` keeps the answer's text exactly as it was sent.
    ///
    /// This function serialises the payload, not the future. So the future borrows nothing: it may be stored, collected
    /// and spawned, whatever the payload is. The call's timeout begins with the first poll.
    ///
    /// Retries a call on a new connection, within the call's timeout, if the server certainly did not run it. That is
    /// so if its connection ended first, or the server was stopping. A call of more than 64 KiB is not retried.
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
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call and frees all it used. On a session the server is told, and drops an async
    /// handler; the session goes on. A server without sessions sees the connection close. It runs a request that it has
    /// read to the end, and its answer is lost. So a call dropped after its first poll may have run.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> CallFuture<R>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a one-way call, which is not answered, and does not wait for the server to read it. The caller cannot know
    /// whether it ran. A classic server answers it, and the client drops the answer.
    ///
    /// The future is ready when the operating system has taken the call. The first call to a server waits until the
    /// server has accepted or declined a session.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request) that can occur before an answer.
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// A call whose future is dropped after its first poll may have been sent.
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> CallFuture<()> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with a stream of items, and reads each as a `T`.
    ///
    /// Flow control: the server sends only as many items as the client [asks for](ClientConfig::with_stream_window). A
    /// slow reader causes backpressure on this method and on no other call. Dropping the stream cancels the call. If a
    /// server without sessions answers with an array, the stream yields its elements.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// # let client = procbridge::tokio::Client::connect(":8000").await?;
    /// let mut lines = client.stream::<String>("logs.tail", "app.log").await?;
    /// while let Some(line) = lines.next().await {
    ///     println!("{}", line?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The future is ready when the call is sent. The default call timeout does not apply to streams; a timeout that is
    /// [set](CallBuilder::timeout) covers the whole stream. If the server accepts the first connection and stays
    /// silent, the first call waits no longer than a call's timeout.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); an error of the method itself arrives with the items.
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// As [`request`](Self::request).
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> CallFuture<Items<T>> {
        self.call(method).payload(payload).stream()
    }

    /// Subscribes to the events that the server publishes under `topics`. In a topic `*` stands for one segment between
    /// dots, and at the end for all segments that follow.
    ///
    /// The future is ready when the subscription is active: no event published after that is missed. Reconnects after a
    /// lost connection, for as long as the subscription lives and is polled. The next event then tells that events may
    /// have been [missed](crate::Event::missed).
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); `Protocol` if the server does not support sessions.
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the subscription.
    pub fn subscribe<I, S>(&self, topics: I) -> CallFuture<Subscription>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let topics = topics.into_iter().map(Into::into).collect();
        CallFuture::of_subscription(Subscription::begin(self.inner.clone(), topics))
    }

    /// Begins a call with settings of its own.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// # let client = procbridge::tokio::Client::connect(":8000").await?;
    /// use std::time::Duration;
    ///
    /// let n: i64 = client.call("sum").payload(&[1, 2, 3]).timeout(Duration::from_millis(200)).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<'a>(&'a self, method: &'a str) -> CallBuilder<'a> {
        CallBuilder::new(Target::Client(&self.inner), Some(method))
    }

    /// Begins a call without a method name, which the protocol allows.
    pub fn call_without_method(&self) -> CallBuilder<'_> {
        CallBuilder::new(Target::Client(&self.inner), None)
    }

    /// Serves the methods of `router` to the server, which calls them with
    /// [`Call::session`](crate::tokio::Call::session). From now on a task keeps a session open, until the last clone of
    /// this client is dropped. The future is ready when a session is open.
    ///
    /// # Errors
    ///
    /// - `Connect`, `Denied`, `Timeout`, `Disconnected`: the server cannot be reached.
    /// - `Protocol`: the server does not support sessions.
    /// - `InvalidInput`: this client already serves a router.
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready leaves a client that does not serve, as an error does.
    pub fn serve<S: Send + Sync + 'static>(
        &self,
        router: Router<S>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<S> {
        let (client, router) = (self.clone(), router.without_state());
        async move { client.begin_to_serve(router).await }
    }

    async fn begin_to_serve(&self, router: Router) -> Result<(), Error> {
        let inner = &self.inner;
        match &mut *inner.lock() {
            Some(_) => {
                return Err(Error::unsent(
                    ErrorKind::InvalidInput,
                    "this client already serves a router (call serve once)",
                ));
            }
            none => {
                inner.admission.set_streams(&router.routes.streams());
                *none = Some(Arc::new(router));
            }
        }
        let mut guard = ServeGuard { client: inner, is_done: false };
        // A session opened before has told the server that it takes no calls.
        if let Some(session) = inner.current.session() {
            session.goodbye("replaced by a session that serves calls");
        }
        inner.open_session(clock::time(inner.config.inactivity_timeout())).await?;
        guard.is_done = true;
        background::keep(inner);
        inner.greet().await;
        Ok(())
    }

    /// Sets a callback that runs for each new session of a client that [serves](Self::serve). It runs at the end of
    /// `serve`, and after each reconnect. A server that calls its clients knows them by their sessions; here a client
    /// can tell the server its name. Replaces an earlier callback.
    ///
    /// ```no_run
    /// # use procbridge::tokio::{Client, Router};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// let client = Client::connect("unix:/run/app.sock").await?;
    /// client.on_session(async |client| {
    ///     if let Err(error) = client.request::<()>("register", &()).await {
    ///         eprintln!("cannot register: {error}");
    ///     }
    /// });
    /// client.serve(Router::new().method("alert", async |text: String| eprintln!("{text}"))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_session<F, T>(&self, greet: F)
    where
        F: Fn(Client) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.inner.greeting().0 = Some(Arc::new(move |inner| Box::pin(greet(Self { inner }))));
    }
}

/// Makes the client stop serving if it is dropped before it is done.
struct ServeGuard<'a> {
    client: &'a Inner,
    is_done: bool,
}

impl Drop for ServeGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.client.lock() = None;
            // The session may be open already, and has told the server that it takes calls.
            if let Some(session) = self.client.current.session() {
                session.goodbye("the client has stopped serving");
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

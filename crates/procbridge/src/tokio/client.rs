//! Calls as users make them.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::request;
use crate::config::client::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::tokio::background;
use crate::tokio::call_future::CallFuture;
use crate::tokio::clock;
use crate::tokio::inner::Inner;
use crate::tokio::item_stream::Items;
use crate::tokio::request_builder::{RequestBuilder, Target};
use crate::tokio::router::Router;
use crate::tokio::subscription::Subscription;

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
///
/// A server that can gives the client a session with its first call: one connection for all further calls, in both
/// directions. Any other server gets a connection for each call. A client makes no difference between them. A session has a
/// task in the runtime of the call that opened it; it ends with that runtime, and with the last clone of its client. So a
/// client belongs to one runtime: calls from another one wait until the first drives its tasks, which one of a single
/// thread does only inside of `block_on`.
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
        Ok(Self { inner: Arc::new(Inner::new(endpoint, config)) })
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls `method` with `payload` and reads the answer as an `R`. A null answer is a `()`, an `Option` or a
    /// `Value`; `Box<RawValue>` is the answer's text exactly as it was sent.
    ///
    /// The payload is written by this function, not by the future: that borrows nothing, and may be stored, collected and
    /// spawned, whatever the payload is. The call's time begins with the first poll.
    ///
    /// A call that the server certainly did not run, because its connection ended first or the server was stopping, is
    /// sent again on a new connection, within the call's time, if it has at most 64 KiB.
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
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the call up and leaves nothing behind. In a session the server is told, and drops an async
    /// handler; the session goes on. A server without sessions sees the connection end, and a request that it has read runs
    /// to its end while its answer finds nobody. So a call that was dropped after its first poll may have run.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> CallFuture<R>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a call that is not answered, and does not wait for the server to have read it. Whether it runs is not known;
    /// a classic server answers it, and the answer is dropped.
    ///
    /// It is ready when the call is handed to the system. The first call to a server waits until the server has shown
    /// whether it holds a session.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request) that can happen before an answer.
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

    /// Calls a method that answers with a stream of items, each read as a `T`.
    ///
    /// The server sends only as many items as are [asked for](ClientConfig::with_stream_window); a slow reader slows the
    /// method down and nobody else. Dropping the stream cancels the call. A server without sessions that answers with an
    /// array is read as one that streams its elements.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// # let client = procbridge::tokio::Client::connect(":8000")?;
    /// let mut lines = client.stream::<String>("logs.tail", "app.log").await?;
    /// while let Some(line) = lines.next().await {
    ///     println!("{}", line?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It is ready when the call is sent. The default time limit of a call does not hold for streams; one that is
    /// [set](RequestBuilder::timeout) holds for the whole of it. The first call waits for a server that accepts and says nothing
    /// no longer than a call may take.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); an error of the method itself comes with the items.
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
    /// dots, and at the end for all that follows.
    ///
    /// It is ready when the subscription is in force: what is published from then on is not missed. A lost connection is
    /// made again, for as long as the subscription lives and is asked for events, and the next event says that some may have
    /// been [missed](crate::Event::missed).
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request); `Protocol` if the server holds no sessions.
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
        RequestBuilder::new(Target::Client(&self.inner), Some(method))
    }

    /// Begins a call that names no method, which the protocol allows.
    pub fn call_without_method(&self) -> RequestBuilder<'_> {
        RequestBuilder::new(Target::Client(&self.inner), None)
    }

    /// Serves the methods of `router` to the server, which calls them with [`Call::session`](crate::tokio::Call::session).
    /// A task keeps a session open for it from now on, until the last clone of this client is dropped. It is ready when
    /// there is a session.
    ///
    /// # Errors
    ///
    /// - `Connect`, `Denied`, `Timeout`, `Disconnected`: the server cannot be reached.
    /// - `Protocol`: it holds no sessions.
    /// - `InvalidInput`: this client serves already.
    ///
    /// # Panics
    ///
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready, as an error, leaves a client that does not serve.
    pub fn serve(&self, router: Router) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let client = self.clone();
        async move { client.begin_to_serve(router).await }
    }

    async fn begin_to_serve(&self, router: Router) -> Result<(), Error> {
        let inner = &self.inner;
        match &mut *inner.lock() {
            Some(_) => return Err(Error::unsent(ErrorKind::InvalidInput, "this client serves already")),
            none => {
                inner.admission.set_streams(&router.routes.streams());
                *none = Some(Arc::new(router));
            }
        }
        let mut intent = ServeGuard { client: inner, is_done: false };
        // One that was opened before told the server that it takes no calls.
        if let Some(session) = inner.current.session() {
            session.goodbye("a session that serves takes its place");
        }
        inner.open_session(clock::time(inner.config.patience())).await?;
        intent.is_done = true;
        background::keep(inner);
        inner.greet().await;
        Ok(())
    }

    /// Has `greet` run each time this client, as one that [serves](Self::serve), has a new session: the first time at the
    /// end of `serve`, and again whenever the session was lost and made anew. A server that calls its clients knows them by
    /// their sessions; here they tell it who they are. Takes the place of one that was set before.
    ///
    /// ```no_run
    /// # use procbridge::tokio::{Client, Router};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), procbridge::Error> {
    /// let client = Client::connect("unix:/run/app.sock")?;
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

/// The intent of a client to serve, given up when this is dropped before it is done.
struct ServeGuard<'a> {
    client: &'a Inner,
    is_done: bool,
}

impl Drop for ServeGuard<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.client.lock() = None;
            // It may have been opened already, and has told the server that it takes calls.
            if let Some(session) = self.client.current.session() {
                session.goodbye("the client does not serve after all");
            }
        }
    }
}

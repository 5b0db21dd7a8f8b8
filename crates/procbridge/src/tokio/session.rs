//! A session as a handler sees it: the way back to the caller (PB-ID-*).

use std::sync::{Arc, Weak};

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions};
use crate::config::client::ClientConfig;
use crate::error::Error;
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::session::Session as Inner;
use crate::session::session::BeginError;
use crate::tokio::call_future::CallFuture;
use crate::tokio::clock;
use crate::tokio::flow::{self, Begun};
use crate::tokio::item_stream::Items;
use crate::tokio::request_builder::{RequestBuilder, Target};

/// The session on which a call came, for calls in the other direction. Clones are the same session. It may be kept after
/// the call: it works as long as the peer keeps its connection.
///
/// ```
/// use procbridge::Refusal;
/// use procbridge::tokio::{Call, Client, Router, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procbridge::Error> {
/// // A server that asks its caller for a name before it answers.
/// async fn greet(call: Call) -> Result<String, Refusal> {
///     let name: String = call.session()?.request("name", &()).await?;
///     Ok(format!("hello {name}"))
/// }
/// let server = Server::bind("127.0.0.1:0")?.spawn(Router::new().method("greet", greet));
///
/// let client = Client::connect(server.endpoint())?;
/// client.serve(Router::new().method("name", || async { "world" })).await?;
/// assert_eq!(client.request::<String>("greet", &()).await?, "hello world");
/// # server.stop().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    /// Whoever keeps a session does not keep its connection: that has ended when the peer's has.
    session: Weak<Inner>,
    peer: Peer,
    pub(super) config: Arc<ClientConfig>,
}

impl Session {
    pub(super) fn of(call: &crate::Call) -> Result<Self, Refusal> {
        let Some(session_call) = call.session_call() else {
            return Err(Refusal::new("the caller holds no session, so it cannot be called"));
        };
        let mut config = ClientConfig::new();
        config.limits = session_call.session.admission.config.limits;
        let (session, peer) = (Arc::downgrade(&session_call.session), session_call.session.peer);
        Ok(Self { session, peer, config: Arc::new(config) })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the other end calls itself, if it says so.
    pub fn name(&self) -> Option<String> {
        self.session.upgrade()?.peer_terms().and_then(|terms| terms.name().map(str::to_string))
    }

    /// Whether calls can still begin on this session.
    pub fn is_open(&self) -> bool {
        self.session.upgrade().is_some_and(|session| session.is_open())
    }

    /// Calls a method of the other end, see [`Client::request`](crate::tokio::Client::request). Nothing is sent again. It
    /// may take 30 s, unless [another limit](RequestBuilder::timeout) is set.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`](crate::tokio::Client::request), and `InvalidInput` if the other end takes no calls.
    ///
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call, and leaves the session as it is.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> CallFuture<R>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a call that is not answered, see [`Client::notify`](crate::tokio::Client::notify).
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`](crate::tokio::Client::notify).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::notify`](crate::tokio::Client::notify).
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> CallFuture<()> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with items, see [`Client::stream`](crate::tokio::Client::stream).
    ///
    /// # Errors
    ///
    /// Those of [`Client::stream`](crate::tokio::Client::stream).
    ///
    /// # Cancel safety
    ///
    /// As [`Client::stream`](crate::tokio::Client::stream).
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> CallFuture<Items<T>> {
        self.call(method).payload(payload).stream()
    }

    /// Begins a call that has settings of its own.
    pub fn call<'a>(&'a self, method: &'a str) -> RequestBuilder<'a> {
        RequestBuilder::new(Target::Session(self), Some(method))
    }

    fn session(&self) -> Result<Arc<Inner>, Error> {
        self.session.upgrade().ok_or_else(|| request::refused(BeginError::Gone))
    }

    pub(super) async fn begin(
        &self,
        options: &CallOptions,
        packet: Packet,
    ) -> Result<(Begun, CallTimeout), Error> {
        let time = clock::time(options.timeout);
        Ok((
            flow::begin_on(&self.config, &self.session()?, packet, options.form, time)
                .await
                .map_err(request::in_reverse)?,
            time,
        ))
    }

    pub(super) async fn run(&self, options: &CallOptions, packet: Packet) -> Result<Option<Response>, Error> {
        let time = clock::time(options.timeout.or(self.config.call_timeout));
        match flow::begin_on(&self.config, &self.session()?, packet, options.form, time)
            .await
            .map_err(request::in_reverse)?
        {
            Begun::Response(response) => Ok(Some(response)),
            Begun::Calling(pending) => flow::finish(pending, time).await.map(Some),
            Begun::Sent => Ok(None),
        }
    }
}

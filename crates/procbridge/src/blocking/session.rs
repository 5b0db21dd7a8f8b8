//! A session as a handler sees it: the way back to the caller (PB-ID-*).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::caller::Caller;
use crate::blocking::item_stream::Items;
use crate::blocking::request_builder::{RequestBuilder, Target};
use crate::config::client::ClientConfig;
use crate::error::Error;
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::service::call::Call;

/// The session on which a call came, for calls in the other direction. Clones are the same session. It may be kept after
/// the call: it works as long as the peer keeps its connection.
///
/// ```
/// use procbridge::{Call, Client, Refusal, Router, Server};
///
/// // A server that asks its caller for a name before it answers.
/// let router = Router::new().method("greet", |call: &Call| -> Result<String, Refusal> {
///     let name: String = call.session()?.request("name", &())?;
///     Ok(format!("hello {name}"))
/// });
/// let server = Server::bind("127.0.0.1:0")?.spawn(router)?;
///
/// let client = Client::connect(server.endpoint())?;
/// client.serve(Router::new().method("name", || "world"))?;
/// assert_eq!(client.request::<String>("greet", &())?, "hello world");
/// # Ok::<(), procbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    /// Whoever keeps a session does not keep its connection: that has ended when the peer's has.
    caller: Caller,
    peer: Peer,
}

impl Session {
    pub(crate) fn of(call: &Call) -> Result<Self, Refusal> {
        let Some(session_call) = call.session_call() else {
            return Err(Refusal::new("the caller holds no session, so it cannot be called"));
        };
        let admission = &session_call.session.admission.config;
        let mut config = ClientConfig::new();
        config.limits = admission.limits;
        let (session, peer) = (Arc::downgrade(&session_call.session), session_call.session.peer);
        Ok(Self { caller: Caller { session, config: Arc::new(config) }, peer })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the other end calls itself, if it says so.
    pub fn name(&self) -> Option<String> {
        self.caller.session.upgrade()?.peer_terms().and_then(|terms| terms.name().map(str::to_string))
    }

    /// Whether calls can still begin on this session.
    pub fn is_open(&self) -> bool {
        self.caller.session.upgrade().is_some_and(|session| session.is_open())
    }

    /// Calls a method of the other end, see [`Client::request`](crate::Client::request). Nothing is sent again.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`](crate::Client::request), and `InvalidInput` if the other end takes no calls.
    ///
    /// # Blocking
    ///
    /// Until the answer is there, at most 30 s unless [another limit](RequestBuilder::timeout) is set.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<R, Error>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a call that is not answered, see [`Client::notify`](crate::Client::notify).
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`](crate::Client::notify).
    ///
    /// # Blocking
    ///
    /// Until the call is handed to the system.
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with items, see [`Client::stream`](crate::Client::stream).
    ///
    /// # Errors
    ///
    /// Those of [`Client::stream`](crate::Client::stream).
    ///
    /// # Blocking
    ///
    /// Until the call is sent.
    pub fn stream<T: DeserializeOwned>(
        &self,
        method: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Items<T>, Error> {
        self.call(method).payload(payload).stream()
    }

    /// Begins a call that has settings of its own.
    pub fn call<'a>(&'a self, method: &'a str) -> RequestBuilder<'a> {
        RequestBuilder::new(Target::Session(&self.caller), Some(method))
    }
}

impl Call {
    /// The session on which this call came, to call its caller back.
    ///
    /// # Errors
    ///
    /// The caller has a connection for this call only, as those of the older packages do. The error is a [`Refusal`], so
    /// that `?` in a handler tells the caller.
    pub fn session(&self) -> Result<Session, Refusal> {
        Session::of(self)
    }
}

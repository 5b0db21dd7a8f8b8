//! A session as a handler sees it, for calls back to the caller (PB-ID-*).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::call_builder::{CallBuilder, Target};
use crate::blocking::caller::Caller;
use crate::blocking::item_stream::Items;
use crate::config::client::ClientConfig;
use crate::error::Error;
use crate::peer::Peer;
use crate::reply_error::ReplyError;
use crate::service::call::Call;

/// The session on which a call came, for calls in the other direction. Clones are the same session. A handler may keep
/// it after the call: it works as long as the peer keeps its connection open.
///
/// ```
/// use procbridge::{Call, Client, ReplyError, Router, Server};
///
/// // A server that asks its caller for a name before it answers.
/// let router = Router::new().method("greet", |call: &Call| -> Result<String, ReplyError> {
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
    /// A weak reference: keeping a session does not keep the peer's connection open.
    caller: Caller,
    peer: Peer,
}

impl Session {
    pub(crate) fn of(call: &Call) -> Result<Self, ReplyError> {
        let Some(session_call) = call.session_call() else {
            return Err(ReplyError::new("the caller holds no session, so it cannot be called"));
        };
        let admission = &session_call.session.admission.config;
        let mut config = ClientConfig::new();
        config.limits = admission.limits;
        let (session, peer) = (Arc::downgrade(&session_call.session), session_call.session.peer);
        Ok(Self { caller: Caller { session, config: Arc::new(config) }, peer })
    }

    /// Returns the peer at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the name that the peer gave for itself, if any.
    pub fn name(&self) -> Option<String> {
        self.caller.session.upgrade()?.peer_terms().and_then(|settings| settings.name().map(str::to_string))
    }

    /// Whether calls can still begin on this session.
    pub fn is_open(&self) -> bool {
        self.caller.session.upgrade().is_some_and(|session| session.is_open())
    }

    /// Calls a method of the peer, see [`Client::request`](crate::Client::request). Never retries.
    ///
    /// # Errors
    ///
    /// Those of [`Client::request`](crate::Client::request), and `InvalidInput` if the peer takes no calls.
    ///
    /// # Blocking
    ///
    /// Until the answer arrives, at most 30 s unless [another timeout](CallBuilder::timeout) is set.
    pub fn request<R>(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<R, Error>
    where
        R: DeserializeOwned,
    {
        self.call(method).payload(payload).send()
    }

    /// Sends a one-way call, see [`Client::notify`](crate::Client::notify).
    ///
    /// # Errors
    ///
    /// Those of [`Client::notify`](crate::Client::notify).
    ///
    /// # Blocking
    ///
    /// Until the operating system has taken the call.
    pub fn notify(&self, method: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.call(method).payload(payload).notify()
    }

    /// Calls a method that answers with a stream of items, see [`Client::stream`](crate::Client::stream).
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

    /// Begins a call with settings of its own.
    pub fn call<'a>(&'a self, method: &'a str) -> CallBuilder<'a> {
        CallBuilder::new(Target::Session(&self.caller), Some(method))
    }
}

impl Call {
    /// Returns the session on which this call came, to call its caller back.
    ///
    /// # Errors
    ///
    /// The caller has a connection for this call only, as callers of the older packages do. The error is a [`ReplyError`],
    /// so `?` in a handler answers the caller with it.
    pub fn session(&self) -> Result<Session, ReplyError> {
        Session::of(self)
    }
}

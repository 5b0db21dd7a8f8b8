//! A session as a handler sees it: the way back to the caller (PB-ID-*).

use std::sync::{Arc, Weak};

use procbridge_proto::{Packet, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::flow::{self, Begun};
use crate::blocking::item_stream::Items;
use crate::blocking::request_builder::{RequestBuilder, Target};
use crate::classic::client::CallTimeout;
use crate::client::request::{self, CallOptions};
use crate::config::client::ClientConfig;
use crate::error::Error;
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::service::call::Call;
use crate::session::Session as Inner;
use crate::session::session::BeginError;

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
    session: Weak<Inner>,
    peer: Peer,
    pub(super) config: Arc<ClientConfig>,
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
        RequestBuilder::new(Target::Session(self), Some(method))
    }

    fn session(&self) -> Result<Arc<Inner>, Error> {
        self.session.upgrade().ok_or_else(|| request::refused(BeginError::Gone))
    }

    pub(super) fn begin(&self, options: &CallOptions, packet: Packet) -> Result<(Begun, CallTimeout), Error> {
        let time = CallTimeout::new(options.timeout);
        let begun = flow::begin_on(&self.config, &self.session()?, packet, options.form, time)
            .map_err(request::in_reverse)?;
        Ok((begun, time))
    }

    pub(super) fn run(&self, options: &CallOptions, packet: Packet) -> Result<Option<Response>, Error> {
        let time = CallTimeout::new(options.timeout.or(self.config.call_timeout));
        let begun = flow::begin_on(&self.config, &self.session()?, packet, options.form, time);
        match begun.map_err(request::in_reverse)? {
            Begun::Response(response) => Ok(Some(response)),
            Begun::Calling(pending) => flow::finish(pending, time, time.started).map(Some),
            Begun::Ready(session, packet) => flow::answer(&self.config, &session, packet, time, time.started)
                .map_err(request::in_reverse)
                .map(Some),
            Begun::Sent => Ok(None),
        }
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

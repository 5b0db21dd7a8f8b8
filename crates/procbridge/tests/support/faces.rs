//! Both faces behind one pair of types, so that one list of scenarios runs on all of them.

use std::process;
#[cfg(feature = "tokio")]
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use procbridge::{
    Client, ClientConfig, Endpoint, Error, ErrorKind, Event, Items, Outcome, Router, RunningServer, Server,
    ServerConfig, SessionMode, Subscription,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[cfg(feature = "tokio")]
use super::WATCHDOG;
use super::wire::{RawStream, raw};

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    Blocking,
    #[cfg(feature = "tokio")]
    Tokio,
}

/// A client's implementation, and whether it offers sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKind {
    pub face: Face,
    pub sessions: SessionMode,
}

impl From<Face> for ClientKind {
    fn from(face: Face) -> Self {
        Self { face, sessions: SessionMode::Auto }
    }
}

/// The methods that a server serves.
pub enum Methods {
    /// Blocking functions, which both faces serve.
    Blocking(Router),
    /// Async ones.
    #[cfg(feature = "tokio")]
    Async(procbridge::tokio::Router),
}

impl From<Router> for Methods {
    fn from(router: Router) -> Self {
        Self::Blocking(router)
    }
}

#[cfg(feature = "tokio")]
impl From<procbridge::tokio::Router> for Methods {
    fn from(router: procbridge::tokio::Router) -> Self {
        Self::Async(router)
    }
}

/// Which kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
    Abstract,
}

pub const FACES: &[Face] = &[
    Face::Blocking,
    #[cfg(feature = "tokio")]
    Face::Tokio,
];
pub const TRANSPORTS: &[Transport] = &[Transport::Tcp, Transport::Unix, Transport::Abstract];

/// A server of either face, stopped when dropped.
pub struct TestServer {
    pub endpoint: Endpoint,
    inner: Inner,
    dir: Option<tempfile::TempDir>,
}

enum Inner {
    Blocking(RunningServer),
    #[cfg(feature = "tokio")]
    Tokio {
        handle: procbridge::tokio::ServerHandle,
        ended: mpsc::Receiver<Result<(), Error>>,
    },
}

/// A client of either face.
#[derive(Clone)]
pub enum TestClient {
    Blocking(Client),
    #[cfg(feature = "tokio")]
    Tokio(procbridge::tokio::Client, Arc<tokio::runtime::Runtime>),
}

impl TestServer {
    pub fn start(
        face: Face,
        transport: Transport,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let unique = dir.path().file_name().unwrap().to_str().unwrap().to_string();
        let endpoint = match transport {
            Transport::Tcp => "127.0.0.1:0".to_string(),
            Transport::Unix => format!("unix:{}/s.sock", dir.path().display()),
            Transport::Abstract => format!("unix:@procbridge-test-{}-{unique}", process::id()),
        };
        Self { dir: Some(dir), ..Self::start_at(face, &endpoint.parse().unwrap(), methods, config) }
    }

    /// Returns a server at a place of the test's choice.
    pub fn start_at(
        face: Face,
        endpoint: &Endpoint,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Self {
        let methods = methods.into();
        let (endpoint, inner) = match face {
            Face::Blocking => {
                #[allow(clippy::infallible_destructuring_match, reason = "with tokio there is another")]
                let router = match methods {
                    Methods::Blocking(router) => router,
                    #[cfg(feature = "tokio")]
                    Methods::Async(_) => panic!("the blocking face serves no async functions"),
                };
                let server = Server::bind_with(endpoint, config).unwrap().spawn(router).unwrap();
                (server.endpoint(), Inner::Blocking(server))
            }
            #[cfg(feature = "tokio")]
            Face::Tokio => {
                let (ready, started) = mpsc::channel();
                let (done, ended) = mpsc::channel();
                let endpoint = endpoint.clone();
                let router = match methods {
                    Methods::Blocking(router) => procbridge::tokio::Router::from(router),
                    Methods::Async(router) => router,
                };
                thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                    let result = runtime.unwrap().block_on(async {
                        let server = procbridge::tokio::Server::bind_with(&endpoint, config)?;
                        let endpoint = server.endpoints().first().unwrap().clone();
                        ready.send((endpoint, server.handle())).unwrap();
                        server.serve(router).await
                    });
                    let _ = done.send(result);
                });
                let (endpoint, handle) = started.recv().unwrap();
                (endpoint, Inner::Tokio { handle, ended })
            }
        };
        Self { endpoint, inner, dir: None }
    }

    pub fn stop_soon(&self) {
        match &self.inner {
            Inner::Blocking(server) => server.handle().shutdown(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { handle, .. } => handle.shutdown(),
        }
    }

    pub fn abort_soon(&self) {
        match &self.inner {
            Inner::Blocking(server) => server.handle().abort(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { handle, .. } => handle.abort(),
        }
    }

    /// Stops in an orderly way and waits for the end.
    pub fn stop(self) {
        drop(self.end());
    }

    /// Does the same; the directory of its socket stays for another server.
    pub fn end(mut self) -> Option<tempfile::TempDir> {
        self.stop_soon();
        match self.inner {
            Inner::Blocking(server) => server.shutdown().unwrap(),
            #[cfg(feature = "tokio")]
            Inner::Tokio { ended, .. } => ended.recv_timeout(WATCHDOG).unwrap().unwrap(),
        }
        self.dir.take()
    }

    pub fn client(&self, kind: impl Into<ClientKind>) -> TestClient {
        TestClient::new(kind, &self.endpoint, ClientConfig::default())
    }

    /// Returns a bare connection, for bytes that no client would send.
    pub fn connect(&self) -> RawStream {
        raw(&self.endpoint)
    }
}

/// A thread that waits for the answer to its call.
pub type Caller = thread::JoinHandle<Result<Value, Error>>;

impl TestClient {
    pub fn new(kind: impl Into<ClientKind>, endpoint: &Endpoint, config: ClientConfig) -> Self {
        let ClientKind { face, sessions } = kind.into();
        let config = if sessions == SessionMode::Auto { config } else { config.with_sessions(sessions) };
        match face {
            Face::Blocking => Self::Blocking(Client::with_config(endpoint, config).unwrap()),
            #[cfg(feature = "tokio")]
            Face::Tokio => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
                let client = procbridge::tokio::Client::with_config(endpoint, config).unwrap();
                Self::Tokio(client, Arc::new(runtime.unwrap()))
            }
        }
    }

    /// Connects a client of `face`, and returns it as it is printed.
    pub fn connect(face: Face, endpoint: &Endpoint, config: ClientConfig) -> Result<String, Error> {
        match face {
            Face::Blocking => Client::connect_with(endpoint, config).map(|client| format!("{client:?}")),
            #[cfg(feature = "tokio")]
            Face::Tokio => tokio::runtime::Runtime::new().unwrap().block_on(async {
                let client = procbridge::tokio::Client::connect_with(endpoint, config).await?;
                Ok(format!("{client:?}"))
            }),
        }
    }

    pub fn request(&self, method: &str, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.request(method, payload),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.request(method, payload)),
        }
    }

    /// Starts so many threads that call `method` and wait for its answer.
    pub fn calling(&self, count: usize, method: &'static str) -> Vec<Caller> {
        let call = |_| {
            let client = self.clone();
            thread::spawn(move || client.request(method, &json!(null)))
        };
        (0..count).map(call).collect()
    }

    pub fn request_without_method(&self, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.call_without_method().payload(payload).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                runtime.block_on(client.call_without_method().payload(payload).send())
            }
        }
    }

    /// Calls with JSON text there and back, untouched.
    pub fn request_text(&self, method: Option<&str>, payload: &str) -> Result<String, Error> {
        let payload = RawValue::from_string(payload.to_string()).unwrap();
        let answer: Result<Box<RawValue>, Error> = match self {
            Self::Blocking(client) => {
                let call = method.map_or(client.call_without_method(), |method| client.call(method));
                call.payload(&payload).send()
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                let call = method.map_or(client.call_without_method(), |method| client.call(method));
                runtime.block_on(call.payload(&payload).send())
            }
        };
        answer.map(|answer| answer.get().to_string())
    }

    pub fn request_within(&self, limit: Duration, method: &str, payload: &Value) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => client.call(method).payload(payload).timeout(limit).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => {
                runtime.block_on(client.call(method).payload(payload).timeout(limit).send())
            }
        }
    }
}

/// The options that one call has for itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub timeout: Option<Duration>,
    pub meta: Vec<(&'static str, Value)>,
    pub is_idempotent: bool,
}

/// The items of a stream of either face.
pub enum TestItems {
    Blocking(Items<Value>),
    #[cfg(feature = "tokio")]
    Tokio(procbridge::tokio::Items<Value>, Arc<tokio::runtime::Runtime>),
}

/// A subscription of either face.
pub enum TestSubscription {
    Blocking(Box<Subscription>),
    #[cfg(feature = "tokio")]
    Tokio(Box<procbridge::tokio::Subscription>, Arc<tokio::runtime::Runtime>),
}

/// A call with its options, on either face.
macro_rules! built {
    ($client:expr, $method:expr, $payload:expr, $options:expr) => {{
        let mut call = $client.call($method).payload($payload);
        if let Some(limit) = $options.timeout {
            call = call.timeout(limit);
        }
        for (key, value) in &$options.meta {
            call = call.meta(*key, value);
        }
        if $options.is_idempotent { call.idempotent() } else { call }
    }};
}

impl TestClient {
    pub fn ask(&self, method: &str, payload: &Value, options: &Options) -> Result<Value, Error> {
        match self {
            Self::Blocking(client) => built!(client, method, payload, options).send(),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(built!(client, method, payload, options).send()),
        }
    }

    pub fn notify(&self, method: &str, payload: &Value) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.notify(method, payload),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.notify(method, payload)),
        }
    }

    pub fn stream(&self, method: &str, payload: &Value) -> Result<TestItems, Error> {
        self.stream_with(method, payload, &Options::default())
    }

    pub fn stream_with(&self, method: &str, payload: &Value, options: &Options) -> Result<TestItems, Error> {
        match self {
            Self::Blocking(client) => {
                built!(client, method, payload, options).stream().map(TestItems::Blocking)
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime
                .block_on(async { built!(client, method, payload, options).stream().await })
                .map(|items| TestItems::Tokio(items, runtime.clone())),
        }
    }

    pub fn subscribe(&self, topics: &[&str]) -> Result<TestSubscription, Error> {
        match self {
            Self::Blocking(client) => client
                .subscribe(topics.iter().copied())
                .map(|events| TestSubscription::Blocking(Box::new(events))),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime
                .block_on(client.subscribe(topics.iter().copied()))
                .map(|events| TestSubscription::Tokio(Box::new(events), runtime.clone())),
        }
    }

    pub fn serve(&self, router: Router) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.serve(router),
            #[cfg(feature = "tokio")]
            Self::Tokio(client, runtime) => runtime.block_on(client.serve(router.into())),
        }
    }

    /// Returns a number that the server has counted.
    pub fn counted(&self, kind: &str, key: &str) -> u64 {
        let stats = self.request("$/stats", &Value::Null).unwrap();
        stats.get(kind).and_then(|kind| kind.get(key)).and_then(Value::as_u64).unwrap()
    }
}

impl Iterator for TestItems {
    type Item = Result<Value, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Blocking(items) => items.next(),
            #[cfg(feature = "tokio")]
            Self::Tokio(items, runtime) => runtime.block_on(items.next()),
        }
    }
}

impl TestItems {
    pub fn finish(self) -> Result<Value, Error> {
        match self {
            Self::Blocking(items) => items.finish(),
            #[cfg(feature = "tokio")]
            Self::Tokio(items, runtime) => runtime.block_on(items.finish()),
        }
    }
}

impl Iterator for TestSubscription {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Blocking(events) => events.next(),
            #[cfg(feature = "tokio")]
            Self::Tokio(events, runtime) => runtime.block_on(events.next()),
        }
    }
}

/// Returns the message, the code and the data of a bad response.
pub fn refusal(result: Result<Value, Error>) -> (String, Option<String>, Option<String>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Remote, Outcome::Replied), "{error:?}");
    let remote = error.remote().unwrap();
    let data = remote.data().map(|data| data.get().to_string());
    (remote.message().to_string(), remote.code().map(str::to_string), data)
}

/// Returns the code of a bad response.
pub fn code_of(result: Result<Value, Error>) -> String {
    let (message, code, _) = refusal(result);
    code.unwrap_or_else(|| panic!("no code: {message}"))
}

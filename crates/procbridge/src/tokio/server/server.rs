//! The server: one task accepts at each endpoint, and one serves each connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::sync::watch;
use ::tokio::task::JoinHandle;
use ::tokio::task::coop::consume_budget;
use ::tokio::time;
use rustix::io::Errno;

use crate::config::server::ServerConfig;
use crate::config::tuning::FLUSH_GRACE;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::limits::admission::Admission;
use crate::net::accept_backoff::AcceptBackoff;
use crate::net::listener::Listener;
use crate::telemetry::log::LogClass;
use crate::telemetry::log_thread::{FLUSH_TIMEOUT, LOG_THREAD};
use crate::tokio::call_task;
use crate::tokio::clock;
use crate::tokio::router::Router;
use crate::tokio::server::connection::ServerConnection;
use crate::tokio::server::context::ServerContext;
use crate::tokio::server::shutdown::{Deadline, Interrupted, OpenListener, Phase, ServerHandle, Shutdown};

/// A server that listens and is ready to serve.
///
/// ```no_run
/// use procbridge::tokio::{Router, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), procbridge::Error> {
/// let router = Router::new().method("sum", |xs: Vec<i64>| async move { xs.iter().sum::<i64>() });
/// Server::bind("unix:/run/app.sock")?.serve(router).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a server answers calls once it serves: `serve` or `spawn`"]
pub struct Server {
    listeners: Vec<Listener>,
    config: ServerConfig,
    shutdown: Arc<Shutdown>,
}

/// A server in a task of its own, see [`Server::spawn`]. Dropping it stops the server as [`ServerHandle::shutdown`] does,
/// and does not wait until it has ended.
#[derive(Debug)]
#[must_use = "a running server that is dropped stops"]
pub struct RunningServer {
    handle: ServerHandle,
    endpoints: Vec<Endpoint>,
    task: Option<JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// Listens at `endpoint` with the default settings. Connections queue from now on, until [`serve`](Self::serve) or
    /// [`spawn`](Self::spawn) serves them. It needs no runtime yet.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong.
    /// - `Listen`: another server listens there, or the operating system does not allow it.
    /// - `Denied`: other machines could reach the endpoint, see [`ServerConfig::allow_remote`].
    ///
    /// # Blocking
    ///
    /// Never for addresses, `localhost` and Unix sockets. The system's resolver looks up any other host name, which may
    /// take a while.
    pub fn bind<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::bind_with(endpoint, ServerConfig::default())
    }

    /// Listens at `endpoint`, with the settings in `config`.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind), and `InvalidInput`: a setting has a value with which no call could succeed.
    ///
    /// # Blocking
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_with<E>(endpoint: E, config: ServerConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        config.check()?;
        Self { listeners: Vec::new(), config, shutdown: Arc::default() }.and_bind(endpoint)
    }

    /// Listens at one more endpoint.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind).
    ///
    /// # Blocking
    ///
    /// As [`bind`](Self::bind).
    pub fn and_bind<E>(mut self, endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.listeners.extend(Listener::bind(&endpoint.try_into()?, &self.config)?);
        Ok(self)
    }

    /// Returns the endpoints at which this server listens, with the ports that the system chose. A name with several
    /// addresses gives several endpoints.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.listeners.iter().map(|listener| listener.endpoint.clone()).collect()
    }

    /// Returns a handle that stops this server from another task or thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shutdown: self.shutdown.clone() }
    }

    /// Serves until the server is stopped, see [`ServerHandle::shutdown`]. The future is ready when the calls in flight are
    /// answered: graceful shutdown, for at most the [drain timeout](ServerConfig::with_drain_timeout). A blocking
    /// handler that still runs then is left on its thread.
    ///
    /// # Errors
    ///
    /// - `Io`: the runtime cannot register the sockets. Later failures are logged and retried.
    ///
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the server as [`ServerHandle::abort`] does. New connections are refused, and socket
    /// files are removed. The tasks of the calls in flight answer them with the code `cancelled`, as soon as the
    /// runtime polls them.
    pub async fn serve<S: Send + Sync + 'static>(self, router: Router<S>) -> Result<(), Error> {
        let router = router.without_state();
        let Self { mut listeners, config, shutdown } = self;
        shutdown.serve();
        let mut admission = Admission::new(config, MAX_CONNECTIONS, &router.routes.names());
        admission.leaked = shutdown.leaked.clone();
        admission.set_streams(&router.routes.streams());
        admission.clock = clock::now;
        admission.discard = call_task::discard;
        let admission = Arc::new(admission);
        let (work, tasks) = (watch::Sender::new(()), watch::Sender::new(()));
        let server = Arc::new(ServerContext { admission, shutdown, router, work, tasks });
        // However this future ends, its tasks are notified.
        let _end = End { shutdown: server.shutdown.clone() };
        let mut acceptors = Vec::new();
        for listener in &mut listeners {
            let Some(open) = listener.open() else { continue };
            let open = OpenListener::open(open, listener.peers)
                .map_err(|error| Error::io(ErrorKind::Io, "cannot start the server", error))?;
            let open = Arc::new(open);
            server.shutdown.watch(&open);
            acceptors.push(::tokio::spawn(accept(server.clone(), open)));
        }
        let mut clock = pin!(server.shutdown.sessions.keep_time());
        let mut finish = pin!(server.finish(acceptors));
        poll_fn(|context| {
            // It never ends.
            let _ = clock.as_mut().poll(context);
            finish.as_mut().poll(context)
        })
        .await;
        flush_log().await;
        Ok(())
    }

    /// Serves in a task of its own. Useful for tests, and for programs that do something else meanwhile.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn spawn<S: Send + Sync + 'static>(self, router: Router<S>) -> RunningServer {
        let (handle, endpoints) = (self.handle(), self.endpoints());
        RunningServer { handle, endpoints, task: Some(::tokio::spawn(self.serve(router))) }
    }
}

impl RunningServer {
    /// Returns the endpoint at which the server listens; the first of several.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoints.first().cloned().unwrap_or_else(|| Endpoint::tcp("127.0.0.1", 0))
    }

    /// Returns all endpoints at which the server listens.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns a handle that stops the server from another task or thread.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Stops the server as [`ServerHandle::shutdown`] does, and waits until it has ended, see [`Server::serve`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// Once the future was polled the server stops, even if the future is dropped.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.handle.shutdown();
        let Some(task) = self.task.take() else { return Ok(()) };
        task.await.unwrap_or_else(|error| {
            Err(Error::unsent(ErrorKind::Io, "the server's task did not end by itself").with_source(error))
        })
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl ServerContext {
    /// Waits for the stop, then for the calls in flight within the drain timeout, then for all tasks to end.
    async fn finish(&self, acceptors: Vec<JoinHandle<()>>) {
        let changed = pin!(self.shutdown.changed());
        let timer = pin!(time::sleep(Duration::ZERO));
        let mut waiter = Deadline::new(&self.shutdown, changed, timer);
        waiter.unless(Phase::Draining, None, |_| Poll::<()>::Pending).await;
        for acceptor in acceptors {
            let _ = acceptor.await;
        }
        let deadline = clock::now().checked_add(self.admission.config.drain_timeout);
        let mut answered = pin!(self.work.closed());
        waiter.unless(Phase::Aborting, deadline, |context| answered.as_mut().poll(context)).await;
        self.shutdown.advance(Phase::Aborting);
        // The rest takes no time, unless a handler blocks its thread; then it is left behind.
        let _ = time::timeout(FLUSH_GRACE, self.tasks.closed()).await;
    }
}

/// Accepts connections at one endpoint and starts a task for each, until the server stops.
async fn accept(server: Arc<ServerContext>, listener: Arc<OpenListener>) {
    let changed = pin!(server.shutdown.changed());
    let timer = pin!(time::sleep(Duration::ZERO));
    let mut waiter = Deadline::new(&server.shutdown, changed, timer);
    let start = |accepted| {
        if let Some(connection) = ServerConnection::admit(&server, accepted, listener.peers) {
            ::tokio::spawn(connection.serve(server.clone()));
        }
    };
    let log = &server.admission.log;
    let mut backoff = AcceptBackoff::new();
    while !server.shutdown.has_reached(Phase::Draining) {
        match listener.accept() {
            Ok(accepted) => {
                backoff.reset();
                start(accepted);
                // Yield: while connections are queued, this loop waits for nothing else.
                consume_budget().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let arrival = |context: &mut Context<'_>| listener.poll_arrival(context);
                if let Interrupted::Done(Err(_)) = waiter.unless(Phase::Draining, None, arrival).await {
                    // The runtime is ending, and this task with it.
                    return;
                }
            }
            Err(error) => {
                log.write(LogClass::Accept, || format!("cannot accept: {error}"));
                if Errno::from_io_error(&error).is_none_or(AcceptBackoff::is_needed) {
                    let until = clock::now() + backoff.pause();
                    waiter.unless(Phase::Draining, Some(until), |_| Poll::<()>::Pending).await;
                }
            }
        }
    }
    for accepted in listener.drain_backlog() {
        start(accepted);
    }
}

/// Waits until the log has written the server's last lines.
async fn flush_log() {
    let last = LOG_THREAD.last();
    let taken = async {
        while !LOG_THREAD.has_written(last) {
            time::sleep(DRAIN_POLL).await;
        }
    };
    let _ = time::timeout(FLUSH_TIMEOUT, taken).await;
}

/// Ends the server when it is dropped.
struct End {
    shutdown: Arc<Shutdown>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown.advance(Phase::Aborting);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

/// The default connection limit. A connection costs a task and a socket, so it is higher than a thread-based server's.
const MAX_CONNECTIONS: usize = 4096;
/// The interval at which an ended server checks whether the log has written its lines.
const DRAIN_POLL: Duration = Duration::from_millis(1);

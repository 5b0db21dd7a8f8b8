//! The server: each accepting thread serves what it accepts, and another thread is idle before it begins.
//!
//! A request that has arrived on accept is read, answered and closed on the accepting thread. The event loop does all
//! waiting, so a silent connection takes no thread.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::blocking::router::Router;
use crate::blocking::server::context::ServerContext;
use crate::blocking::server::event_loop::EventLoop;
use crate::blocking::server::in_flight::InFlight;
use crate::blocking::server::session_table::SessionTable;
use crate::blocking::server::shutdown::{Phase, ServerHandle, Shutdown};
use crate::blocking::thread_pool::spawn;
use crate::config::server::ServerConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::limits::admission::Admission;
use crate::limits::permits::Semaphore;
use crate::net::listener::{Listener, OpenListener};
use crate::telemetry::log_thread::{FLUSH_TIMEOUT, LOG_THREAD};

/// A server that listens and is ready to serve.
///
/// ```no_run
/// use procbridge::{Router, Server};
///
/// let router = Router::new().method("sum", |xs: Vec<i64>| xs.iter().sum::<i64>());
/// Server::bind("unix:/run/app.sock")?.serve(router)?;
/// # Ok::<(), procbridge::Error>(())
/// ```
#[must_use = "a server answers calls once it serves: `serve` or `spawn`"]
pub struct Server {
    listeners: Vec<Listener>,
    config: ServerConfig,
    shutdown: Arc<Shutdown>,
}

/// A server on a thread of its own, see [`Server::spawn`]. Dropping it stops the server and waits until it has ended.
#[derive(Debug)]
#[must_use = "a running server that is dropped stops"]
pub struct RunningServer {
    handle: ServerHandle,
    endpoints: Vec<Endpoint>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// Listens at `endpoint` with the default settings. Connections queue from now on, until [`serve`](Self::serve) or
    /// [`spawn`](Self::spawn) serves them.
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong.
    /// - `Listen`: another server listens there, or the operating system does not allow it.
    /// - `Denied`: other machines could reach the endpoint, see [`ServerConfig::allow_remote`].
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

    /// Returns a handle that stops this server from another thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { shutdown: self.shutdown.clone() }
    }

    /// Serves until the server is stopped, see [`ServerHandle::shutdown`].
    ///
    /// # Errors
    ///
    /// - `Io`: the operating system cannot start a thread or open a descriptor at the start. Later failures are logged
    ///   and retried.
    ///
    /// # Blocking
    ///
    /// Until the server is stopped and the calls in flight are answered: graceful shutdown, for at most the [drain
    /// timeout](ServerConfig::with_drain_timeout). A handler that still runs then is left on its thread.
    pub fn serve<S: Send + Sync + 'static>(self, router: Router<S>) -> Result<(), Error> {
        let router = router.without_state();
        let failed = |error: io::Error| Error::io(ErrorKind::Io, "cannot start the server", error);
        let Self { mut listeners, config, shutdown } = self;
        shutdown.serve();
        let mut admission = Admission::new(config, MAX_CONNECTIONS, &router.routes.names());
        admission.set_streams(&router.routes.streams());
        admission.leaked = shutdown.leaked.clone();
        let admission = Arc::new(admission);
        let server = Arc::new(ServerContext {
            router,
            arriving: Semaphore::new(usize::MAX),
            event_loop: EventLoop::new().map_err(failed)?,
            in_flight: InFlight::default(),
            sessions: SessionTable::new(),
            unstarted: Mutex::default(),
            admission,
            shutdown: shutdown.clone(),
        });
        let event_loop = {
            let server = server.clone();
            spawn("procbridge-events", move || server.run_event_loop()).map_err(failed)?
        };
        let (mut started, mut sockets) = (Ok(()), Vec::new());
        for listener in &mut listeners {
            let Some(OpenListener { socket, file }) = listener.open() else { continue };
            let socket = Arc::new(socket);
            let weak = Arc::downgrade(&socket);
            sockets.push(weak.clone());
            shutdown.watch(socket, file, listener.peers);
            started = started.and_then(|()| server.begin_accepting(weak, listener.peers));
        }
        if started.is_err() {
            shutdown.advance(Phase::Aborting);
        }
        server.finish(&sockets);
        let _ = event_loop.join();
        LOG_THREAD.flush(FLUSH_TIMEOUT);
        started.map_err(failed)
    }

    /// Serves on a thread of its own. Useful for tests, and for programs that do something else meanwhile.
    ///
    /// # Errors
    ///
    /// - `Io`: the operating system cannot start a thread.
    pub fn spawn<S>(self, router: Router<S>) -> Result<RunningServer, Error>
    where
        S: Send + Sync + 'static,
    {
        let (handle, endpoints) = (self.handle(), self.endpoints());
        let thread = thread::Builder::new()
            .name("procbridge-server".to_string())
            .spawn(move || self.serve(router))
            .map_err(|error| Error::io(ErrorKind::Io, "cannot start the server", error))?;
        Ok(RunningServer { handle, endpoints, thread: Some(thread) })
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

    /// Returns a handle that stops the server from another thread.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Stops the server as [`ServerHandle::shutdown`] does, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Server::serve`].
    ///
    /// # Blocking
    ///
    /// Until the server has ended, see [`Server::serve`].
    pub fn shutdown(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        // A fork of the server's process has none of its threads, and must not stop it.
        if !self.handle.shutdown.is_ours() {
            return Ok(());
        }
        self.handle.shutdown();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(Error::unsent(ErrorKind::Io, "the server's thread panicked")))
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

/// The default connection limit. Each connection may need a thread, so it is lower than a task-based server's.
const MAX_CONNECTIONS: usize = 512;

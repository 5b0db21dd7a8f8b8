//! Accepting, and threads: each acceptor serves what it accepts, and another stands ready before it begins.
//!
//! A request that is there at once is read, answered and closed on the thread that accepted it. Everything that has to
//! be waited for goes to the poller, so that a silent connection holds no thread.

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
pub struct Server {
    listeners: Vec<Listener>,
    config: ServerConfig,
    control: Arc<Shutdown>,
}

/// A server on a thread of its own, see [`Server::spawn`]. Dropping it stops the server and waits for that.
#[derive(Debug)]
pub struct RunningServer {
    handle: ServerHandle,
    endpoints: Vec<Endpoint>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// Listens at `endpoint` with the default settings. Connections queue from now on; they are served by
    /// [`serve`](Self::serve) or [`spawn`](Self::spawn).
    ///
    /// # Errors
    ///
    /// - `InvalidEndpoint`: the endpoint's text is wrong.
    /// - `Listen`: another server is there, or the system does not allow it.
    /// - `Denied`: other machines could reach the endpoint, see [`ServerConfig::allow_remote`].
    pub fn bind<E>(endpoint: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Self::bind_with(endpoint, ServerConfig::default())
    }

    /// The same with other settings.
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind), and `InvalidInput`: a setting is one under which nothing could work.
    pub fn bind_with<E>(endpoint: E, config: ServerConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        config.check()?;
        Self { listeners: Vec::new(), config, control: Arc::default() }.and_bind(endpoint)
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

    /// Where this server listens, with the ports that the system chose. A name with several addresses is several
    /// endpoints.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.listeners.iter().map(|listener| listener.endpoint.clone()).collect()
    }

    /// The means to stop this server from another thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { control: self.control.clone() }
    }

    /// Serves until the server is stopped, see [`ServerHandle::stop`].
    ///
    /// # Errors
    ///
    /// - `Io`: the system gives no thread or no descriptor to begin with. Later failures are logged and overcome.
    ///
    /// # Blocking
    ///
    /// Until the server is stopped and the calls in flight are answered, the latter for at most the
    /// [drain time](ServerConfig::with_drain_timeout). A handler that is still at work then is left behind on its
    /// thread.
    pub fn serve(self, router: Router) -> Result<(), Error> {
        let failed = |error: io::Error| Error::io(ErrorKind::Io, "cannot start the server", error);
        let Self { mut listeners, config, control } = self;
        control.serve();
        let mut admission = Admission::new(config, MAX_CONNECTIONS, &router.routes.names());
        admission.set_streams(&router.routes.streams());
        admission.leaked = control.leaked.clone();
        let admission = Arc::new(admission);
        let server = Arc::new(ServerContext {
            router,
            arriving: Semaphore::new(usize::MAX),
            poller: EventLoop::new().map_err(failed)?,
            running: InFlight::default(),
            sessions: SessionTable::new(),
            lacking: Mutex::default(),
            admission,
            control: control.clone(),
        });
        let poller = {
            let server = server.clone();
            spawn("procbridge-poller", move || server.run_event_loop()).map_err(failed)?
        };
        let (mut started, mut sockets) = (Ok(()), Vec::new());
        for listener in &mut listeners {
            let Some(OpenListener { socket, file }) = listener.open() else { continue };
            let socket = Arc::new(socket);
            let weak = Arc::downgrade(&socket);
            sockets.push(weak.clone());
            control.watch(socket, file, listener.peers);
            started = started.and_then(|()| server.begin_accepting(weak, listener.peers));
        }
        if started.is_err() {
            control.advance(Phase::Aborting);
        }
        server.finish(&sockets);
        let _ = poller.join();
        LOG_THREAD.flush(FLUSH_TIMEOUT);
        started.map_err(failed)
    }

    /// Serves on a thread of its own. Good for tests, and for programs that do something else meanwhile.
    ///
    /// # Errors
    ///
    /// - `Io`: the system gives no thread.
    pub fn spawn(self, router: Router) -> Result<RunningServer, Error> {
        let (handle, endpoints) = (self.handle(), self.endpoints());
        let thread = thread::Builder::new()
            .name("procbridge-server".to_string())
            .spawn(move || self.serve(router))
            .map_err(|error| Error::io(ErrorKind::Io, "cannot start the server", error))?;
        Ok(RunningServer { handle, endpoints, thread: Some(thread) })
    }
}

impl RunningServer {
    /// Where the server listens; the first of several endpoints.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoints.first().cloned().unwrap_or_else(|| Endpoint::tcp("127.0.0.1", 0))
    }

    /// All endpoints at which the server listens.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The means to stop the server from another thread.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Stops the server as [`ServerHandle::stop`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Server::serve`].
    ///
    /// # Blocking
    ///
    /// Until the server has ended, see [`Server::serve`].
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        // A fork of the server's process has neither its threads nor the right to stop it.
        if !self.handle.control.is_ours() {
            return Ok(());
        }
        self.handle.stop();
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

/// A thread may be needed for each, so there are fewer than a task-based server would allow.
const MAX_CONNECTIONS: usize = 512;

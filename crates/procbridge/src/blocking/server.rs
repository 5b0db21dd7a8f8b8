//! Accepting, and threads: each acceptor serves what it accepts, and another stands ready before it begins.
//!
//! A request that is there at once is read, answered and closed on the thread that accepted it. Everything that has to
//! be waited for goes to the poller, so that a silent connection holds no thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::Request;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use crate::blocking::exchange::{Exchange, Patience, Progress};
use crate::blocking::poller::Poller;
use crate::blocking::running::RunningCalls;
use crate::blocking::stream::{Readiness, Stream};
use crate::budget::Budget;
use crate::call::Call;
use crate::config::ServerConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::journal::{Journal, Matter};
use crate::listener::{Listener, Peers};
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::router::{self, Router};

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
    control: Arc<Control>,
}

/// Stops a server from anywhere, see [`Server::handle`].
#[derive(Clone)]
pub struct ServerHandle {
    control: Arc<Control>,
}

/// A server on a thread of its own, see [`Server::spawn`]. Dropping it stops the server and waits for that.
#[derive(Debug)]
pub struct RunningServer {
    handle: ServerHandle,
    endpoints: Vec<Endpoint>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

/// What a server, its handles and its threads share.
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) control: Arc<Control>,
    pub(super) poller: Poller,
    pub(super) running: RunningCalls,
    pub(super) journal: Journal,
    router: Router,
    connections: Budget,
    waiting: Budget,
    calls: Budget,
    held: Budget,
}

/// The state of a server's life.
#[derive(Debug, Default)]
pub(super) struct Control {
    stage: Mutex<Stage>,
    changed: Condvar,
    sockets: Mutex<Vec<Arc<OwnedFd>>>,
    /// Handlers at work for nobody.
    pub(super) leaked: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Serving,
    /// No new work; what runs is finished.
    Draining,
    /// What runs is not waited for any longer.
    Aborting,
    /// Everybody has been answered.
    Ended,
}

/// The acceptors of one listener.
struct Acceptors {
    shared: Arc<Shared>,
    socket: Arc<OwnedFd>,
    peers: Peers,
    kept: usize,
    idle: AtomicUsize,
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
    /// Those of [`bind`](Self::bind).
    pub fn bind_with<E>(endpoint: E, config: ServerConfig) -> Result<Self, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
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
        let connections = config.max_connections.unwrap_or(MAX_CONNECTIONS);
        let shared = Arc::new(Shared {
            router,
            connections: Budget::new(connections),
            waiting: Budget::new(config.max_waiting),
            calls: Budget::new(config.max_calls.min(connections)),
            held: Budget::new(config.max_unfinished),
            poller: Poller::new().map_err(failed)?,
            running: RunningCalls::default(),
            journal: Journal::new(),
            config,
            control: control.clone(),
        });
        let poller = {
            let shared = shared.clone();
            spawn("procbridge-poller", move || shared.poller.run(&shared)).map_err(failed)?
        };
        let mut started = Ok(());
        for listener in &mut listeners {
            let Some(socket) = listener.take_socket().map(Arc::new) else { continue };
            control.sockets().push(socket.clone());
            let kept = shared.config.acceptors.unwrap_or_else(default_acceptors);
            let (shared, peers) = (shared.clone(), listener.peers);
            let acceptors = Arc::new(Acceptors { shared, socket, peers, kept, idle: AtomicUsize::new(0) });
            started = started.and_then(|()| (0..kept).try_for_each(|_| Acceptors::start(&acceptors)));
        }
        if started.is_err() {
            control.advance(Stage::Aborting);
        }
        // A stop that came before the sockets were known has not reached them.
        if control.stage() > Stage::Serving {
            control.close_sockets();
        }
        shared.finish();
        let _ = poller.join();
        started.map_err(failed)
    }

    /// Serves on a thread of its own. Good for tests, and for programs that do something else meanwhile.
    ///
    /// # Errors
    ///
    /// - `Io`: the system gives no thread.
    pub fn spawn(self, router: Router) -> Result<RunningServer, Error> {
        let (handle, endpoints) = (self.handle(), self.endpoints());
        let thread = spawn("procbridge-server", move || self.serve(router))
            .map_err(|error| Error::io(ErrorKind::Io, "cannot start the server", error))?;
        Ok(RunningServer { handle, endpoints, thread: Some(thread) })
    }
}

impl ServerHandle {
    /// Stops the server in an orderly way: new connections are refused from now on, requests that have not fully
    /// arrived are answered with the code `unavailable`, the calls in flight are finished within the
    /// [drain time](ServerConfig::with_drain_timeout) and then answered with the code `cancelled`. Returns at once;
    /// [`Server::serve`] returns when it is done.
    pub fn stop(&self) {
        self.control.advance(Stage::Draining);
    }

    /// Stops the server without waiting for the calls in flight, which are answered with the code `cancelled`.
    pub fn abort(&self) {
        self.control.advance(Stage::Aborting);
    }

    /// Handlers that are still at work although their callers have been answered without them: they ran past their
    /// time limit.
    pub fn leaked_handlers(&self) -> usize {
        self.control.leaked.load(Ordering::Relaxed)
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
        self.handle.stop();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "the server's thread panicked")))
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Control {
    fn stage(&self) -> Stage {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Arc<OwnedFd>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stage() > Stage::Serving
    }

    pub(super) fn has_ended(&self) -> bool {
        self.stage() == Stage::Ended
    }

    fn advance(&self, stage: Stage) {
        let mut current = self.lock();
        *current = stage.max(*current);
        drop(current);
        self.close_sockets();
        self.changed.notify_all();
    }

    /// Ends listening: who connects from now on is refused, and threads that wait in accept return.
    fn close_sockets(&self) {
        for socket in self.sockets().iter() {
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    /// Waits until the server's stage is past `stage`, or `deadline`.
    fn wait_past(&self, stage: Stage, deadline: Option<Instant>) {
        let mut current = self.lock();
        while *current <= stage {
            let left =
                deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(current, left.min(Duration::from_secs(3600)));
            current = waited.map_or_else(|error| error.into_inner().0, |(current, _)| current);
        }
    }
}

impl Acceptors {
    /// Starts one more thread that accepts.
    fn start(this: &Arc<Self>) -> io::Result<()> {
        let this = this.clone();
        this.idle.fetch_add(1, Ordering::AcqRel);
        let thread = {
            let this = this.clone();
            spawn("procbridge-server", move || Self::run(&this))
        };
        if thread.is_err() {
            this.idle.fetch_sub(1, Ordering::AcqRel);
        }
        thread.map(drop)
    }

    /// Accepts and serves. There is always a thread that accepts: the last one to find a connection starts another
    /// before it serves; one that comes back and finds enough of them ends.
    fn run(this: &Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted =
                rustix::net::acceptfrom_with(&this.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            match accepted {
                Ok((socket, address)) => {
                    pause = FIRST_PAUSE;
                    if this.idle.fetch_sub(1, Ordering::AcqRel) == 1
                        && let Err(error) = Self::start(this)
                    {
                        this.shared
                            .journal
                            .write(Matter::Accept, || format!("cannot start a thread: {error}"));
                    }
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    this.shared.serve(Stream::accepted(socket), address, this.peers);
                    if this.idle.fetch_add(1, Ordering::AcqRel) >= this.kept {
                        this.idle.fetch_sub(1, Ordering::AcqRel);
                        return;
                    }
                }
                Err(_) if this.shared.control.is_stopping() => return,
                // Out of descriptors or memory: they come back when calls end, and trying at once would only burn.
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    this.shared
                        .journal
                        .write(Matter::Accept, || format!("cannot accept: {}", io::Error::from(error)));
                    this.shared.control.wait_past(Stage::Serving, Some(Instant::now() + pause));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // The peer gave up meanwhile, or a signal came: it concerns one connection, not the server.
                Err(error) => {
                    this.shared
                        .journal
                        .write(Matter::Accept, || format!("cannot accept: {}", io::Error::from(error)));
                }
            }
        }
    }
}

impl Shared {
    /// Serves one connection as far as that goes without waiting for the peer.
    fn serve(self: &Arc<Self>, stream: Stream, address: Option<SocketAddr>, peers: Peers) {
        let peer = match address {
            Some(address) => Peer::Tcp(address),
            None => match Peer::of_unix_socket(&stream) {
                Ok(peer) => peer,
                Err(_) => return,
            },
        };
        let (Some(place), Some(held)) = (self.connections.take(1), self.held.take(0)) else {
            let limit = self.connections.limit();
            self.turn_away(stream, peer, &router::overloaded("connections", limit, "max_connections"));
            return;
        };
        let mut exchange = Exchange::new(self, stream, peer, place, held);
        if peers == Peers::SameUser && !peer.is_same_user_or_root() {
            let refusal = Refusal::new("only the server's own user may connect (allow_any_user)");
            exchange.refuse(self, &refusal.with_code(procbridge_proto::code::DENIED));
            return self.finish_exchange(exchange, Patience::None);
        }
        let inline_end = Instant::now() + INLINE;
        loop {
            let soon = Instant::now() + SOON;
            if !exchange.stream.wait(Readiness::Read, Some(soon.min(inline_end))).unwrap_or(false) {
                break;
            }
            match exchange.read(self) {
                Progress::Waiting => {}
                Progress::Request(request) => return self.answer(exchange, request),
                Progress::Over => return self.finish_exchange(exchange, Patience::None),
            }
        }
        match self.waiting.take(1) {
            Some(share) => {
                exchange.waiting = Some(share);
                self.poller.wait_for_request(exchange);
            }
            None => {
                let limit = self.waiting.limit();
                exchange
                    .refuse(self, &router::overloaded("connections without a request", limit, "max_waiting"));
                self.finish_exchange(exchange, Patience::None);
            }
        }
    }

    /// Answers a request that the poller has completed.
    pub(super) fn answer_on_a_thread(self: &Arc<Self>, exchange: Exchange, request: Request) {
        let shared = self.clone();
        // If there is no thread the connection is closed: dropping the closure drops what it holds.
        if let Err(error) = spawn("procbridge-server", move || shared.answer(exchange, request)) {
            self.journal.write(Matter::Accept, || format!("cannot start a thread: {error}"));
        }
    }

    /// Runs the handler of a request and writes the answer.
    fn answer(&self, mut exchange: Exchange, request: Request) {
        let started = Instant::now();
        let asked = request.timeout_ms().map(Duration::from_millis);
        let limit = [asked, self.config.handler_timeout].into_iter().flatten().min();
        let deadline = limit.and_then(|limit| started.checked_add(limit));
        let call = Call::new(request, exchange.peer, deadline);
        let refuse = |refusal: Refusal| refusal.packet(call.version(), &self.config.limits);

        let Some(slot) = self.calls.take(1) else {
            exchange.reply(refuse(router::overloaded("calls in flight", self.calls.limit(), "max_calls")));
            return self.finish_exchange(exchange, Patience::None);
        };
        if limit.is_some_and(|limit| limit.is_zero()) {
            exchange.reply(refuse(router::timed_out()));
            return self.finish_exchange(exchange, Patience::None);
        }
        let (ticket, wake) = self.running.begin(call.clone(), exchange);
        if wake {
            self.poller.wake();
        }
        let packet = self.router.answer(&call, &self.config);
        match self.running.end(&ticket) {
            Some(mut exchange) => {
                exchange.reply(packet);
                self.finish_exchange(exchange, Patience::WriteTimeout);
            }
            // It was answered without this handler.
            None => {
                self.control.leaked.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(slot);
        if self.control.is_stopping() {
            self.control.changed.notify_all();
        }
    }

    fn finish_exchange(&self, mut exchange: Exchange, patience: Patience) {
        if exchange.write(self, patience) {
            self.poller.linger(self, exchange);
        }
    }

    /// Tells a connection beyond the limit that it is one. It holds nothing of the server, so it is not waited for.
    fn turn_away(&self, stream: Stream, peer: Peer, refusal: &Refusal) {
        self.journal.write(Matter::Refused, || format!("{peer}: {}", refusal.message()));
        // What it has sent is taken, or closing would reset the connection and destroy the answer.
        let _ = stream.read(&mut Vec::with_capacity(TURNED_AWAY));
        let packet = refusal.packet(procbridge_proto::Version::V1_1, &self.config.limits);
        let _ = stream.write(packet.bytes());
        let _ = stream.finish_writing();
    }

    /// Waits for the stop, then for the calls in flight within their time, and answers the rest.
    fn finish(&self) {
        self.control.wait_past(Stage::Serving, None);
        self.poller.wake();
        let deadline = Instant::now() + self.config.drain_timeout;
        while self.control.stage() == Stage::Draining
            && self.calls.used() > self.control.leaked.load(Ordering::Relaxed)
        {
            let soon = Instant::now() + DRAIN_LOOK;
            self.control.wait_change(soon.min(deadline));
            if Instant::now() >= deadline {
                break;
            }
        }
        for running in self.running.take_all() {
            self.answer_without_handler(running, &router::cancelled());
        }
        self.control.advance(Stage::Ended);
        self.poller.wake();
    }
}

impl Control {
    /// Waits until something was reported, or `deadline`.
    fn wait_change(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.changed.wait_timeout(self.lock(), left);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("stage", &self.control.stage()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.to_string()).spawn(work)
}

fn default_acceptors() -> usize {
    thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).clamp(2, 8))
}

/// A thread may be needed for each, so there are fewer than a task-based server would allow.
const MAX_CONNECTIONS: usize = 512;
/// How long an acceptor waits for the next bytes of a request before the poller takes over.
const SOON: Duration = Duration::from_millis(1);
/// How long it reads a request that keeps arriving.
const INLINE: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A call can end between a look at the calls and the wait for a change.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
const TURNED_AWAY: usize = 16 * 1024;

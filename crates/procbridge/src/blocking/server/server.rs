//! Accepting, and threads: each acceptor serves what it accepts, and another stands ready before it begins.
//!
//! A request that is there at once is read, answered and closed on the thread that accepted it. Everything that has to
//! be waited for goes to the poller, so that a silent connection holds no thread.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use procbridge_proto::Request;

use crate::blocking::background;
use crate::blocking::router::{self, Router};
use crate::blocking::server::acceptors::Acceptors;
use crate::blocking::server::connection::{ServerConnection, WaitUntil};
use crate::blocking::server::event_loop::EventLoop;
use crate::blocking::server::in_flight::InFlight;
use crate::blocking::server::session_threads::{ServedSession, SessionThreads};
use crate::blocking::server::shutdown::{Phase, ServerHandle, Shutdown};
use crate::blocking::thread_pool::spawn;
use crate::blocking::transport::Transport;
use crate::classic::server::Progress;
use crate::config::server::ServerConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::limits::admission::Admission;
use crate::limits::permits::{Permit, Semaphore};
use crate::net::listener::{AllowedPeers, Listener, OpenListener};
use crate::net::socket::{self, Accepted};
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::service::call::Call;
use crate::session::Session;
use crate::session::incoming_calls::IncomingCall;
use crate::session::state::{End, Reader, SessionPermits};
use crate::telemetry::log::LogClass;
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

/// What a server, its handles and its threads share.
pub(in crate::blocking) struct ServerContext {
    pub(in crate::blocking) admission: Arc<Admission>,
    pub(in crate::blocking) control: Arc<Shutdown>,
    pub(in crate::blocking) poller: EventLoop,
    pub(in crate::blocking) running: InFlight,
    pub(in crate::blocking) sessions: SessionThreads,
    pub(in crate::blocking) router: Router,
    /// Connections without a handler: each may become a call at any moment.
    pub(in crate::blocking) arriving: Semaphore,
    /// The endpoints at which nobody accepts, because the system gave no thread.
    pub(in crate::blocking) lacking: Mutex<Vec<Arc<Acceptors>>>,
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
            sessions: SessionThreads::new(),
            lacking: Mutex::default(),
            admission,
            control: control.clone(),
        });
        let poller = {
            let server = server.clone();
            spawn("procbridge-poller", move || server.poller.run(&server)).map_err(failed)?
        };
        let (mut started, mut sockets) = (Ok(()), Vec::new());
        for listener in &mut listeners {
            let Some(OpenListener { socket, file }) = listener.open() else { continue };
            let socket = Arc::new(socket);
            let weak = Arc::downgrade(&socket);
            sockets.push(weak.clone());
            control.watch(socket, file, listener.peers);
            started = started.and_then(|()| Acceptors::begin(&server, weak, listener.peers));
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

impl ServerContext {
    /// Serves one connection as far as that goes without waiting for the peer.
    pub(in crate::blocking) fn serve(
        self: &Arc<Self>,
        (socket, address): Accepted,
        peers: AllowedPeers,
        arriving: Option<Permit>,
    ) {
        let peer = Peer::of(&socket, address);
        let admitted = self.admission.connection(&peer).or_else(|refusal| {
            let may_enter = !self.control.is_stopping() && self.admission.check(peers, &peer).is_ok();
            if may_enter && self.sessions.evict_idle(&peer, self.admission.whose_place()) {
                self.admission.connection(&peer)
            } else {
                Err(refusal)
            }
        });
        let (permit, held) = match admitted {
            Ok(shares) => shares,
            Err(refusal) => return self.admission.refuse_connection(&socket, &peer, &refusal),
        };
        let mut connection = ServerConnection::new(self, Transport::accepted(socket), peer, permit, held);
        if let Err(refusal) = self.admission.check(peers, &peer) {
            connection.refuse(self, &refusal);
            return self.finish_connection(connection, WaitUntil::None);
        }
        // Whoever connects sends at once, as a rule.
        if let Err(error) = connection.stream.limit_wait(FIRST_READ_TIMEOUT) {
            return self.admission.log_dropped(&peer, &error);
        }
        let mut inline_end = None;
        loop {
            match connection.read_soon(self) {
                Progress::Request(request) => return self.answer(connection, request, arriving),
                Progress::Session => return self.begin_session(connection, arriving),
                Progress::Over => return self.finish_connection(connection, WaitUntil::None),
                Progress::Waiting => {}
            }
            // A place is for those who keep the server waiting. Without one they have a moment.
            let now = Instant::now();
            let inline_end = *inline_end.get_or_insert(now + INLINE_ACCEPT_TIME);
            match self.admission.waiting(&peer) {
                Ok(share) => {
                    connection.waiting = Some(share);
                    return self.poller.wait_for_request(self, connection, arriving);
                }
                Err(_) if now < inline_end => {}
                Err(refusal) => {
                    connection.refuse(self, &refusal);
                    return self.finish_connection(connection, WaitUntil::None);
                }
            }
        }
    }

    /// Answers a request that the poller has completed.
    pub(in crate::blocking) fn answer_on_a_thread(
        self: &Arc<Self>,
        connection: ServerConnection,
        request: Request,
    ) {
        let (server, arriving) = (self.clone(), self.arriving.try_acquire(1));
        // If there is no thread the connection is closed: dropping the closure drops what it holds.
        if let Err(error) = spawn("procbridge-server", move || server.answer(connection, request, arriving)) {
            self.admission.log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
        }
    }

    /// Attends to the session that a connection has become, as long as calls come.
    fn begin_session(self: &Arc<Self>, connection: ServerConnection, arriving: Option<Permit>) {
        if let Some(served) = self.enter_session(connection) {
            drop(arriving);
            self.sessions.run_session(self, &served);
        }
    }

    /// Has a thread attend to the session that a connection has become.
    pub(in crate::blocking) fn begin_session_on_a_thread(self: &Arc<Self>, connection: ServerConnection) {
        if let Some(served) = self.enter_session(connection) {
            self.sessions.dispatch(self, &served);
        }
    }

    fn enter_session(self: &Arc<Self>, connection: ServerConnection) -> Option<Arc<ServedSession>> {
        let ServerConnection { stream, incoming, permit, .. } = connection;
        let peer = incoming.peer;
        if matches!(peer, Peer::Tcp(_)) {
            socket::set_no_delay(&stream);
        }
        let (connection, bytes) = incoming.into_session();
        let hold = SessionPermits {
            permit: Some(permit),
            session: self.admission.stats.sessions.open(),
            bytes: Some(bytes),
            answers: None,
        };
        let session = Session::new(
            connection,
            Arc::new(stream),
            peer,
            self.admission.clone(),
            None,
            Reader::None,
            hold,
        );
        let poller = self.poller.waker();
        session.set_blocked_waker(poller);
        // The HELLO goes out before any handler begins.
        session.flush();
        let served = self.sessions.enter(session);
        // First it is among those that are found when the server stops, then it looks whether that has been: one of the two
        // is in time.
        if self.control.is_stopping() {
            drain(&served.session);
        }
        if self.control.has_ended() {
            self.close_session(&served.session);
        }
        Some(served)
    }

    /// Runs the handler of a call on a session, which `began` just now, and queues its answer. Tells when it ended.
    pub(in crate::blocking) fn run(
        &self,
        session: &Arc<Session>,
        work: IncomingCall,
        began: Instant,
    ) -> Instant {
        let ended = background::answer(&self.router, session, &work, began);
        drop(work);
        if self.control.is_stopping() {
            self.control.notify();
        }
        ended
    }

    /// Runs the handler of a request and writes the answer.
    fn answer(&self, connection: ServerConnection, request: Request, arriving: Option<Permit>) {
        let config = &self.admission.config;
        let call = Call::new(request, connection.incoming.peer, config, Instant::now());
        let refuse = |mut connection: ServerConnection, refusal: Refusal| {
            connection.incoming.reply(refusal.packet(call.version(), &config.limits));
            self.finish_connection(connection, WaitUntil::None);
        };

        let slot = match self.admission.call(&connection.incoming.account(), call.method()) {
            Ok(slot) => slot,
            Err(refusal) => return refuse(connection, refusal),
        };
        if call.remaining() == Some(Duration::ZERO) {
            return refuse(connection, router::timed_out());
        }
        drop(arriving);
        let (ticket, wake) = match self.running.begin(call.clone(), connection) {
            Ok(begun) => begun,
            Err(connection) => return refuse(connection, router::stopping()),
        };
        if wake {
            self.poller.wake();
        }
        let (packet, _) = self.router.answer(&call, config, &self.admission.stats, Instant::now());
        let packet = packet.unwrap_or_else(|| router::stopping().packet(call.version(), &config.limits));
        match self.running.end(&ticket) {
            Some(mut connection) => {
                let (packet, _space) = connection.incoming.take_space(&self.admission, packet);
                connection.incoming.reply(packet);
                self.finish_connection(connection, WaitUntil::WriteTimeout);
            }
            // It was answered without this handler.
            None => {
                self.control.leaked.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(slot);
        if self.control.is_stopping() {
            self.control.notify();
        }
    }

    fn finish_connection(&self, mut connection: ServerConnection, patience: WaitUntil) {
        if connection.write(self, patience) {
            self.poller.linger(self, connection);
        }
    }

    /// Waits for the stop, then for the calls in flight within their time, and answers the rest. `listening` are the
    /// sockets at which threads accept.
    fn finish(self: &Arc<Self>, listening: &[Weak<OwnedFd>]) {
        self.control.wait_past(Phase::Serving, None);
        self.poller.wake();
        self.control.close_listeners();
        // The threads that waited in accept leave it now. When the last of them has, the endpoint is free, and what they
        // have accepted is known to be arriving.
        let late = Instant::now() + FLUSH_GRACE;
        while listening.iter().any(|socket| socket.strong_count() > 0) && Instant::now() < late {
            thread::sleep(Duration::from_micros(100));
        }
        for served in self.sessions.open() {
            drain(&served.session);
        }
        for (accepted, peers) in self.control.drain_backlog() {
            let (server, arriving) = (self.clone(), self.arriving.try_acquire(1));
            let serve = move || server.serve(accepted, peers, arriving);
            // If there is no thread the connection is closed, and its client told that it was.
            if let Err(error) = spawn("procbridge-server", serve) {
                self.admission.log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
            }
        }
        let deadline = Instant::now().checked_add(self.admission.config.drain_timeout);
        while self.control.phase() == Phase::Draining && (self.is_at_work() || self.has_sessions()) {
            let soon = Instant::now() + DRAIN_POLL;
            self.control.wait_change(deadline.map_or(soon, |deadline| soon.min(deadline)));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
        }
        for running in self.running.close(&self.control.leaked) {
            self.answer_without_handler(running, &router::cancelled());
        }
        self.close_sessions();
        self.sessions.close();
        self.control.advance(Phase::Ended);
        // Those that have entered meanwhile.
        self.close_sessions();
        self.poller.wake();
    }

    fn close_sessions(&self) {
        for served in self.sessions.open() {
            self.close_session(&served.session);
        }
    }

    /// Ends a session, and answers its calls.
    fn close_session(&self, session: &Session) {
        session.refuse_all(&router::cancelled(), &self.control.leaked);
        session.close(End::Closed);
    }

    /// Whether sessions have something to finish.
    fn has_sessions(&self) -> bool {
        !self.sessions.open().is_empty()
    }

    /// Whether a call is, or may be about to be, with a handler that somebody waits for.
    fn is_at_work(&self) -> bool {
        self.arriving.used() + self.admission.calls() > self.control.leaked.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Has a session end with the calls that are in flight.
fn drain(session: &Session) {
    session.end_subscriptions(&router::stopping());
    session.goodbye(STOPPING);
}

/// What sessions are told when the server stops.
const STOPPING: &str = "the server is stopping";
/// A thread may be needed for each, so there are fewer than a task-based server would allow.
const MAX_CONNECTIONS: usize = 512;
/// How long an acceptor waits for the next bytes of a request before the poller takes over, as near as the system's coarse
/// clock comes to it.
const FIRST_READ_TIMEOUT: Duration = Duration::from_millis(1);
/// How long it reads a request that keeps arriving, or waits for one that finds no place with the poller. Clients that
/// send at once are served so, however many others keep silent.
pub(in crate::blocking) const INLINE_ACCEPT_TIME: Duration = Duration::from_millis(20);
/// How long a server that has ended waits for its threads to let go of the sockets.
const FLUSH_GRACE: Duration = Duration::from_secs(1);
/// A call can end between a look at the calls and the wait for a change.
const DRAIN_POLL: Duration = Duration::from_millis(20);

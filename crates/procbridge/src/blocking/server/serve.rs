//! Serves an accepted connection: answers its request, or turns it into a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use procbridge_proto::Request;

use crate::blocking::serve_call;
use crate::blocking::server::connection::{INLINE_ACCEPT_TIME, ServerConnection, WaitUntil};
use crate::blocking::server::context::ServerContext;
use crate::blocking::server::finish::end_in_order;
use crate::blocking::server::session_table::ServedSession;
use crate::blocking::thread_pool::spawn;
use crate::blocking::transport::Transport;
use crate::classic::server::Progress;
use crate::limits::permits::Permit;
use crate::net::listener::AllowedPeers;
use crate::net::socket::{self, Accepted};
use crate::peer::Peer;
use crate::reply_error::{self, ReplyError};
use crate::service::call::Call;
use crate::session::Session;
use crate::session::reading::Reader;
use crate::session::served_call::IncomingCall;
use crate::session::served_call::SessionPermits;
use crate::telemetry::log::LogClass;

impl ServerContext {
    /// Serves one connection, as far as that needs no wait for the peer.
    pub(in crate::blocking) fn serve(
        self: &Arc<Self>,
        (socket, address): Accepted,
        peers: AllowedPeers,
        arriving: Option<Permit>,
    ) {
        let peer = Peer::of(&socket, address);
        let admitted = self.admission.connection(&peer).or_else(|refusal| {
            let may_enter = !self.shutdown.is_stopping() && self.admission.check(peers, &peer).is_ok();
            if may_enter && self.sessions.evict_idle(&peer, self.admission.whose_place()) {
                self.admission.connection(&peer)
            } else {
                Err(refusal)
            }
        });
        let (permit, bytes) = match admitted {
            Ok(permits) => permits,
            Err(refusal) => return self.admission.refuse_connection(&socket, &peer, &refusal),
        };
        let mut connection = ServerConnection::new(
            &self.admission,
            Transport::accepted(socket),
            peer,
            permit,
            bytes,
            self.shutdown.is_stopping(),
        );
        if let Err(refusal) = self.admission.check(peers, &peer) {
            connection.refuse(&self.admission, &refusal);
            return self.finish_connection(connection, WaitUntil::None);
        }
        // A client that connects usually sends at once.
        if let Err(error) = connection.stream.limit_wait(FIRST_READ_TIMEOUT) {
            return self.admission.log_dropped(&peer, &error);
        }
        let mut inline_end = None;
        loop {
            match connection.read_soon(&self.admission) {
                Progress::Request(request) => return self.answer(connection, request, arriving),
                Progress::Session => return self.begin_session(connection, arriving),
                Progress::Over => return self.finish_connection(connection, WaitUntil::None),
                Progress::Waiting => {}
            }
            // A connection that keeps the server waiting needs a permit. Without one, it gets a moment.
            let now = Instant::now();
            let inline_end = *inline_end.get_or_insert(now + INLINE_ACCEPT_TIME);
            match self.admission.waiting(&peer) {
                Ok(permit) => {
                    connection.waiting = Some(permit);
                    return self.event_loop.wait_for_request(&self.admission, connection, arriving);
                }
                Err(_) if now < inline_end => {}
                Err(refusal) => {
                    connection.refuse(&self.admission, &refusal);
                    return self.finish_connection(connection, WaitUntil::None);
                }
            }
        }
    }

    /// Answers a request that the event loop has completed.
    pub(in crate::blocking) fn answer_on_a_thread(
        self: &Arc<Self>,
        connection: ServerConnection,
        request: Request,
    ) {
        let (server, arriving) = (self.clone(), self.arriving.try_acquire(1));
        // Without a thread the connection is closed: dropping the closure drops it.
        if let Err(error) = spawn("procbridge-server", move || server.answer(connection, request, arriving)) {
            self.admission.log.write(LogClass::Accept, || format!("cannot start a thread: {error}"));
        }
    }

    /// Serves the session that a connection has become, as long as calls come.
    fn begin_session(self: &Arc<Self>, connection: ServerConnection, arriving: Option<Permit>) {
        if let Some(served) = self.enter_session(connection) {
            drop(arriving);
            self.run_session(&served);
        }
    }

    /// Starts a thread that serves the session that a connection has become.
    pub(in crate::blocking) fn begin_session_on_a_thread(self: &Arc<Self>, connection: ServerConnection) {
        if let Some(served) = self.enter_session(connection) {
            self.dispatch(&served);
        }
    }

    fn enter_session(self: &Arc<Self>, connection: ServerConnection) -> Option<Arc<ServedSession>> {
        let ServerConnection { stream, incoming, permit, .. } = connection;
        let peer = incoming.peer;
        if matches!(peer, Peer::Tcp(_)) {
            socket::set_no_delay(&stream);
        }
        let (connection, bytes) = incoming.into_session();
        let permits = SessionPermits {
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
            permits,
        );
        let event_loop = self.event_loop.waker();
        session.set_blocked_waker(event_loop);
        // The HELLO is sent before any handler begins.
        session.flush();
        let served = self.sessions.enter(session);
        // Enter before checking for the stop: either the stop finds the session, or this check finds the stop.
        // Otherwise the session is never ended.
        if self.shutdown.is_stopping() {
            end_in_order(&served.session);
        }
        if self.shutdown.has_ended() {
            self.close_session(&served.session);
        }
        Some(served)
    }

    /// Runs the handler of a call on a session, which begins at `began`, and queues its answer. Returns when it ended.
    pub(in crate::blocking) fn run(
        &self,
        session: &Arc<Session>,
        work: IncomingCall,
        began: Instant,
    ) -> Instant {
        let ended = serve_call::answer(&self.router, session, &work, began);
        drop(work);
        if self.shutdown.is_stopping() {
            self.shutdown.notify();
        }
        ended
    }

    /// Runs the handler of a request and writes the answer.
    fn answer(&self, connection: ServerConnection, request: Request, arriving: Option<Permit>) {
        let config = &self.admission.config;
        let call = Call::new(request, connection.incoming.peer, config, Instant::now());
        let refuse = |mut connection: ServerConnection, refusal: ReplyError| {
            connection.incoming.reply(refusal.packet(call.version(), &config.limits));
            self.finish_connection(connection, WaitUntil::None);
        };

        let slot = match self.admission.call(&connection.incoming.account(), call.method()) {
            Ok(slot) => slot,
            Err(refusal) => return refuse(connection, refusal),
        };
        if call.remaining() == Some(Duration::ZERO) {
            return refuse(connection, reply_error::timed_out());
        }
        drop(arriving);
        let (ticket, wake) = match self.in_flight.begin(call.clone(), connection) {
            Ok(begun) => begun,
            Err(connection) => return refuse(connection, reply_error::stopping()),
        };
        if wake {
            self.event_loop.wake();
        }
        let (packet, _) = self.router.answer(&call, config, &self.admission.stats, Instant::now());
        let packet = packet.unwrap_or_else(|| reply_error::stopping().packet(call.version(), &config.limits));
        match self.in_flight.end(&ticket) {
            Some(mut connection) => {
                let (packet, _space) = connection.incoming.take_space(&self.admission, packet);
                connection.incoming.reply(packet);
                self.finish_connection(connection, WaitUntil::WriteTimeout);
            }
            // The call was answered without this handler.
            None => {
                self.shutdown.leaked.fetch_sub(1, Ordering::Relaxed);
            }
        }
        drop(slot);
        if self.shutdown.is_stopping() {
            self.shutdown.notify();
        }
    }

    fn finish_connection(&self, mut connection: ServerConnection, wait_until: WaitUntil) {
        if connection.write(&self.admission, wait_until) {
            self.event_loop.linger(&self.admission, connection);
        }
    }
}

/// How long an acceptor waits for the next bytes of a request before the event loop takes over. The system's coarse
/// clock rounds it.
const FIRST_READ_TIMEOUT: Duration = Duration::from_millis(1);

//! The server's side of one connection, as one task: reads a request, runs its handler, writes the answer, and closes
//! without losing it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use ::tokio::time::sleep_until;
use procbridge_proto::Packet;

use crate::classic::server::{ClassicServer, LINGER_BYTES, MIN_REPLY_TIME, Progress};
use crate::config::tuning::PEER_CHECK_INTERVAL;
use crate::limits::permits::Permit;
use crate::net::listener::AllowedPeers;
use crate::net::socket::{Accepted, Read};
use crate::peer::Peer;
use crate::reply_error::{self, ReplyError};
use crate::service::call::Call;
use crate::telemetry::log::LogClass;
use crate::tokio::clock;
use crate::tokio::server::begin_session;
use crate::tokio::server::context::{ServerContext, TaskGuard};
use crate::tokio::server::shutdown::{Deadline, Interrupted, Phase};
use crate::tokio::transport::{Readiness, Transport};

/// An accepted connection, with its permits.
#[derive(Debug)]
pub(in crate::tokio) struct ServerConnection {
    stream: Transport,
    incoming: ClassicServer,
    peers: AllowedPeers,
    /// A stopping server waits for this guard. A connection that waits for its request reads once more then.
    busy: TaskGuard,
    permits: ConnectionPermits,
    /// Whether the request did not arrive in time.
    is_late: bool,
}

/// The use of a connection, as its first request decides.
enum FirstRequest {
    /// A connection for this call only.
    Call(Call),
    Session,
}

/// The permits that a connection holds while it is open.
#[derive(Debug)]
struct ConnectionPermits {
    permit: Permit,
    /// The permit for the bytes of a large answer.
    answer: Option<Permit>,
    _alive: TaskGuard,
}

impl ServerConnection {
    /// Admits a connection, or refuses it.
    pub(in crate::tokio) fn admit(
        server: &ServerContext,
        (socket, address): Accepted,
        peers: AllowedPeers,
    ) -> Option<Box<Self>> {
        let admission = &server.admission;
        let peer = Peer::of(&socket, address);
        // A stopping server accepts no sessions: it would have to end them at once.
        let settings = admission
            .config
            .session_settings
            .clone()
            .filter(|_| !server.shutdown.has_reached(Phase::Draining));
        let admitted = admission.connection(&peer).or_else(|refusal| {
            let shutdown = &server.shutdown;
            let may_enter = !shutdown.has_reached(Phase::Draining) && admission.check(peers, &peer).is_ok();
            if may_enter && shutdown.sessions.evict_idle(&peer, admission.whose_place()) {
                admission.connection(&peer)
            } else {
                Err(refusal)
            }
        });
        match admitted {
            Ok((permit, bytes)) => Some(Box::new(Self {
                stream: Transport::accepted(socket),
                incoming: ClassicServer::new(admission, peer, bytes, settings),
                peers,
                busy: server.busy(),
                permits: ConnectionPermits { permit, answer: None, _alive: server.alive() },
                is_late: false,
            })),
            Err(refusal) => {
                admission.refuse_connection(&socket, &peer, &refusal);
                None
            }
        }
    }

    /// Serves the connection to its end.
    pub(in crate::tokio) async fn serve(mut self: Box<Self>, server: Arc<ServerContext>) {
        let changed = pin!(server.shutdown.changed());
        let timer = pin!(sleep_until(self.incoming.deadline().into()));
        let mut waiter = Deadline::new(&server.shutdown, changed, timer);
        if let Err(refusal) = server.admission.check(self.peers, &self.incoming.peer) {
            self.incoming.refuse(&server.admission, &refusal);
        } else {
            match self.request(&server, &mut waiter).await {
                Some(FirstRequest::Call(call)) => self.answer(&server, &mut waiter, call).await,
                Some(FirstRequest::Session) => {
                    let Self { stream, incoming, busy, permits, .. } = *self;
                    return begin_session::begin(&server, stream, incoming, permits.permit, busy);
                }
                None => {}
            }
        }
        // The server waits for a lingering connection, which needs a permit. Without one the connection is closed at
        // once.
        if self.write(&server, &mut waiter).await
            && let Ok(_waiting) = server.admission.waiting(&self.incoming.peer)
        {
            // From here on it holds a socket and a permit, but no packet; a stopping server does not wait for it.
            let Self {
                stream,
                incoming,
                busy,
                permits: ConnectionPermits { permit: _permit, answer, _alive },
                is_late,
                ..
            } = *self;
            drop((incoming, busy, answer));
            let linger_timeout = server.admission.config.linger_timeout;
            let limit = if is_late { linger_timeout.min(MIN_REPLY_TIME) } else { linger_timeout };
            linger(stream, &server, &mut waiter, clock::now().checked_add(limit)).await;
        }
    }

    /// Reads the request, or the offer of a session. Returns nothing if the peer closes, breaks a rule, is too slow, or
    /// comes too late for a stopping server; then the refusal is queued.
    async fn request(
        &mut self,
        server: &ServerContext,
        waiter: &mut Deadline<'_, '_>,
    ) -> Option<FirstRequest> {
        let admission = &server.admission;
        let soon = clock::now() + FIRST_READ_TIMEOUT;
        let mut waiting = None;
        loop {
            match self.read(server) {
                Progress::Waiting => {}
                progress => return self.begin(server, progress),
            }
            // A connection that keeps the server waiting needs a permit. Without one, it gets a moment.
            waiting = waiting.or_else(|| admission.waiting(&self.incoming.peer).ok());
            let deadline = if waiting.is_some() { self.incoming.deadline() } else { soon };
            let woken = if deadline <= clock::now() {
                Interrupted::Late
            } else {
                let stream = &mut self.stream;
                waiter
                    .unless(Phase::Draining, Some(deadline), |context| stream.poll(Readiness::Read, context))
                    .await
            };
            let refusal = match woken {
                Interrupted::Done(Ok(())) => continue,
                Interrupted::Done(Err(error)) => {
                    admission.log_dropped(&self.incoming.peer, &error);
                    return None;
                }
                Interrupted::Late if waiting.is_some() => {
                    self.is_late = true;
                    reply_error::too_slow()
                }
                Interrupted::Late => admission.full(),
                // A request that has arrived by now is served.
                Interrupted::Stopped => match self.read(server) {
                    Progress::Waiting => reply_error::stopping(),
                    progress => return self.begin(server, progress),
                },
            };
            self.incoming.refuse(admission, &refusal);
            return None;
        }
    }

    fn read(&mut self, server: &ServerContext) -> Progress {
        let stream = &self.stream;
        self.incoming.read(&server.admission, |buffer| stream.read(buffer))
    }

    fn begin(&self, server: &ServerContext, progress: Progress) -> Option<FirstRequest> {
        match progress {
            Progress::Request(request) => Some(FirstRequest::Call(Call::new(
                request,
                self.incoming.peer,
                &server.admission.config,
                clock::now(),
            ))),
            Progress::Session => Some(FirstRequest::Session),
            Progress::Waiting | Progress::Over => None,
        }
    }

    /// Queues the answer to a call. It is the handler's if the call gets a permit and the handler ends in time.
    async fn answer(&mut self, server: &ServerContext, waiter: &mut Deadline<'_, '_>, call: Call) {
        let ServerContext { admission, shutdown, .. } = server;
        let handled = match admission.call(&self.incoming.account(), call.method()) {
            Err(refusal) => Err(refusal),
            Ok(_) if call.deadline().is_some_and(|deadline| deadline <= clock::now()) => {
                Err(reply_error::timed_out())
            }
            Ok(_) if shutdown.has_reached(Phase::Aborting) => Err(reply_error::stopping()),
            Ok(slot) => handle(server, &self.stream, waiter, &call, slot).await,
        };
        let packet =
            handled.unwrap_or_else(|refusal| refusal.packet(call.version(), &admission.config.limits));
        let (packet, space) = self.incoming.take_space(admission, packet);
        self.permits.answer = space;
        self.incoming.reply(packet);
    }

    /// Writes what is queued. Waits for the peer as long as it takes some of it and the server has time. Returns
    /// whether the connection must linger.
    async fn write(&mut self, server: &ServerContext, waiter: &mut Deadline<'_, '_>) -> bool {
        let Self { stream, incoming, .. } = self;
        let admission = &server.admission;
        while !incoming.transmit().is_empty() {
            let error = match stream.write(incoming.transmit()) {
                Ok(0) => {
                    let deadline = clock::now().checked_add(admission.config.write_timeout);
                    let writable = |context: &mut Context<'_>| stream.poll(Readiness::Write, context);
                    match waiter.unless(Phase::Aborting, deadline, writable).await {
                        Interrupted::Done(Ok(())) => continue,
                        Interrupted::Done(Err(error)) => error.to_string(),
                        Interrupted::Late => "stopped reading its answer".to_string(),
                        Interrupted::Stopped => "had not read its answer when the server ended".to_string(),
                    }
                }
                Ok(count) => {
                    incoming.transmitted(admission, count);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            admission.log.write(LogClass::Write, || format!("{}: {error}", incoming.peer));
            return false;
        }
        incoming.must_linger() && stream.finish_writing().is_ok()
    }
}

/// Returns the result of the handler of `call`, or the refusal in its place.
async fn handle(
    server: &ServerContext,
    stream: &Transport,
    waiter: &mut Deadline<'_, '_>,
    call: &Call,
    slot: Option<Permit>,
) -> Result<Packet, ReplyError> {
    let ServerContext { admission, router, .. } = server;
    let mut handler = router.start(call.clone(), admission, slot, Instant::now())?;
    let woken = loop {
        let work = |context: &mut Context<'_>| Pin::new(&mut handler).poll(context);
        let check = clock::now().checked_add(PEER_CHECK_INTERVAL);
        let next = [check, call.deadline()].into_iter().flatten().min();
        let woken = waiter.unless(Phase::Aborting, next, work).await;
        let is_late = call.deadline().is_some_and(|deadline| deadline <= clock::now());
        if !matches!(woken, Interrupted::Late) || is_late {
            break woken;
        }
        if stream.is_gone(admission.is_scarce()) {
            return Err(reply_error::cancelled_by_caller());
        }
    };
    match woken {
        Interrupted::Done(handled) => handler.finish(&admission.config, handled).0,
        Interrupted::Late => {
            let method = call.method().unwrap_or_default();
            admission.log.write(LogClass::Timeout, || format!("method {method:?} is past its deadline"));
            Err(reply_error::timed_out())
        }
        Interrupted::Stopped => Err(reply_error::cancelled()),
    }
}

/// Reads and drops what the peer still sends after its answer, within the bounds of PB-CON-13. Closing at once would
/// destroy the answer on its way.
async fn linger(
    mut stream: Transport,
    server: &ServerContext,
    waiter: &mut Deadline<'_, '_>,
    deadline: Option<Instant>,
) {
    let mut bytes_left = LINGER_BYTES;
    while deadline.is_none_or(|deadline| clock::now() < deadline) {
        match stream.discard() {
            Ok(Read::Bytes(count)) => {
                server.admission.stats.received(count);
                let Some(left) = bytes_left.checked_sub(count) else { return };
                bytes_left = left;
                // Yield: a peer that sends as fast as it is read must not keep the thread.
                ::tokio::task::yield_now().await;
            }
            Ok(Read::Nothing) => {
                let more = |context: &mut Context<'_>| stream.poll(Readiness::Read, context);
                let Interrupted::Done(Ok(())) = waiter.unless(Phase::Aborting, deadline, more).await else {
                    return;
                };
            }
            Ok(Read::End) | Err(_) => return,
        }
    }
}

/// How long a request may take to arrive if its connection finds no permit to wait. So clients that send at once are
/// served, however many others stay silent.
const FIRST_READ_TIMEOUT: Duration = Duration::from_millis(20);

//! The server's side of one connection, from its first byte to its end: a request is read, a handler answers, the
//! answer is written, and the connection ends well. One task.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use ::tokio::time::sleep_until;
use procbridge_proto::Packet;

use crate::blocking::router;
use crate::classic::server::{Incoming, LATE, LINGER_BYTES, Progress};
use crate::limits::permits::Share;
use crate::net::listener::Peers;
use crate::net::socket::{Accepted, Read};
use crate::peer::Peer;
use crate::reply_error::Refusal;
use crate::service::call::Call;
use crate::telemetry::log::Matter;
use crate::tokio::clock;
use crate::tokio::server::server::{Shared, Ticket};
use crate::tokio::server::sessions;
use crate::tokio::server::shutdown::{Patience, Stage, Woken};
use crate::tokio::transport::{Readiness, Stream};

/// One accepted connection and what it holds of the server's limits.
#[derive(Debug)]
pub(in crate::tokio) struct Exchange {
    stream: Stream,
    incoming: Incoming,
    peers: Peers,
    /// A server that stops waits for those who hold it: a connection that waits for its request looks once more then.
    busy: Ticket,
    hold: Hold,
    /// Whether the request did not arrive in time.
    is_late: bool,
}

/// What a connection has become.
enum Begun {
    /// One for this call.
    Call(Call),
    Session,
}

/// What a connection holds as long as it is open.
#[derive(Debug)]
struct Hold {
    place: Share,
    /// The space of a large answer.
    answer: Option<Share>,
    _alive: Ticket,
}

impl Exchange {
    /// Lets a connection in, or turns it away.
    pub(in crate::tokio) fn admit(
        shared: &Shared,
        (socket, address): Accepted,
        peers: Peers,
    ) -> Option<Box<Self>> {
        let admission = &shared.admission;
        let peer = Peer::of(&socket, address);
        // A server that stops takes no sessions: they would only have to be ended.
        let terms = admission.config.terms.clone().filter(|_| !shared.control.has_reached(Stage::Draining));
        let admitted = admission.connection(&peer).or_else(|refusal| {
            let control = &shared.control;
            let may_enter = !control.has_reached(Stage::Draining) && admission.check(peers, &peer).is_ok();
            if may_enter && control.sessions.make_room(&peer, admission.whose_place()) {
                admission.connection(&peer)
            } else {
                Err(refusal)
            }
        });
        match admitted {
            Ok((place, held)) => Some(Box::new(Self {
                stream: Stream::accepted(socket),
                incoming: Incoming::new(admission, peer, held, terms),
                peers,
                busy: shared.busy(),
                hold: Hold { place, answer: None, _alive: shared.alive() },
                is_late: false,
            })),
            Err(refusal) => {
                admission.turn_away(&socket, &peer, &refusal);
                None
            }
        }
    }

    /// Serves the connection to its end.
    pub(in crate::tokio) async fn serve(mut self: Box<Self>, shared: Arc<Shared>) {
        let changed = pin!(shared.control.changed());
        let timer = pin!(sleep_until(self.incoming.deadline().into()));
        let mut patience = Patience::new(&shared.control, changed, timer);
        if let Err(refusal) = shared.admission.check(self.peers, &self.incoming.peer) {
            self.incoming.refuse(&shared.admission, &refusal);
        } else {
            match self.request(&shared, &mut patience).await {
                Some(Begun::Call(call)) => self.answer(&shared, &mut patience, call).await,
                Some(Begun::Session) => {
                    let Self { stream, incoming, busy, hold, .. } = *self;
                    return sessions::begin(&shared, stream, incoming, hold.place, busy);
                }
                None => {}
            }
        }
        // A connection that lingers is one that the server waits for, and needs a place among them; without one it is
        // closed at once.
        if self.write(&shared, &mut patience).await
            && let Ok(_waiting) = shared.admission.waiting(&self.incoming.peer)
        {
            // From here on it holds a socket and a place, but no packet, and a server that stops does not wait for it.
            let Self {
                stream, incoming, busy, hold: Hold { place: _place, answer, _alive }, is_late, ..
            } = *self;
            drop((incoming, busy, answer));
            let linger_timeout = shared.admission.config.linger_timeout;
            let limit = if is_late { linger_timeout.min(LATE) } else { linger_timeout };
            linger(stream, &shared, &mut patience, clock::now().checked_add(limit)).await;
        }
    }

    /// Reads the request, or the offer of a session. There is none if the peer closes, breaks a rule, is too slow, or comes
    /// too late for a server that stops; the answer to that is queued.
    async fn request(&mut self, shared: &Shared, patience: &mut Patience<'_, '_>) -> Option<Begun> {
        let admission = &shared.admission;
        let soon = clock::now() + SOON;
        let mut waiting = None;
        loop {
            match self.read(shared) {
                Progress::Waiting => {}
                progress => return self.begin(shared, progress),
            }
            // A place is for those who keep the server waiting. Without one they have a moment.
            waiting = waiting.or_else(|| admission.waiting(&self.incoming.peer).ok());
            let deadline = if waiting.is_some() { self.incoming.deadline() } else { soon };
            let woken = if deadline <= clock::now() {
                Woken::Late
            } else {
                let stream = &mut self.stream;
                patience
                    .unless(Stage::Draining, Some(deadline), |context| stream.poll(Readiness::Read, context))
                    .await
            };
            let refusal = match woken {
                Woken::Done(Ok(())) => continue,
                Woken::Done(Err(error)) => {
                    admission.dropped(&self.incoming.peer, &error);
                    return None;
                }
                Woken::Late if waiting.is_some() => {
                    self.is_late = true;
                    router::too_slow()
                }
                Woken::Late => admission.full(),
                // What has arrived by now is served.
                Woken::Stopped => match self.read(shared) {
                    Progress::Waiting => router::stopping(),
                    progress => return self.begin(shared, progress),
                },
            };
            self.incoming.refuse(admission, &refusal);
            return None;
        }
    }

    fn read(&mut self, shared: &Shared) -> Progress {
        let stream = &self.stream;
        self.incoming.read(&shared.admission, |buffer| stream.read(buffer))
    }

    fn begin(&self, shared: &Shared, progress: Progress) -> Option<Begun> {
        match progress {
            Progress::Request(request) => Some(Begun::Call(Call::new(
                request,
                self.incoming.peer,
                &shared.admission.config,
                clock::now(),
            ))),
            Progress::Session => Some(Begun::Session),
            Progress::Waiting | Progress::Over => None,
        }
    }

    /// Queues the answer to a call, which is its handler's if there is a place for it and it is done in time.
    async fn answer(&mut self, shared: &Shared, patience: &mut Patience<'_, '_>, call: Call) {
        let Shared { admission, control, .. } = shared;
        let handled = match admission.call(&self.incoming.holder(), call.method()) {
            Err(refusal) => Err(refusal),
            Ok(_) if call.deadline().is_some_and(|deadline| deadline <= clock::now()) => {
                Err(router::timed_out())
            }
            Ok(_) if control.has_reached(Stage::Aborting) => Err(router::stopping()),
            Ok(slot) => handle(shared, &self.stream, patience, &call, slot).await,
        };
        let packet =
            handled.unwrap_or_else(|refusal| refusal.packet(call.version(), &admission.config.limits));
        let (packet, space) = self.incoming.take_space(admission, packet);
        self.hold.answer = space;
        self.incoming.reply(packet);
    }

    /// Writes what is queued, waiting for the peer as long as it takes something and the server has time. Tells whether
    /// the connection must linger.
    async fn write(&mut self, shared: &Shared, patience: &mut Patience<'_, '_>) -> bool {
        let Self { stream, incoming, .. } = self;
        let admission = &shared.admission;
        while !incoming.transmit().is_empty() {
            let error = match stream.write(incoming.transmit()) {
                Ok(0) => {
                    let deadline = clock::now().checked_add(admission.config.write_timeout);
                    let room = |context: &mut Context<'_>| stream.poll(Readiness::Write, context);
                    match patience.unless(Stage::Aborting, deadline, room).await {
                        Woken::Done(Ok(())) => continue,
                        Woken::Done(Err(error)) => error.to_string(),
                        Woken::Late => "takes no more of its answer".to_string(),
                        Woken::Stopped => "had not taken its answer when the server ended".to_string(),
                    }
                }
                Ok(count) => {
                    incoming.transmitted(admission, count);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            admission.journal.write(Matter::Write, || format!("{}: {error}", incoming.peer));
            return false;
        }
        incoming.must_linger() && stream.finish_writing().is_ok()
    }
}

/// What the handler of `call` gives, or what is answered in its place.
async fn handle(
    shared: &Shared,
    stream: &Stream,
    patience: &mut Patience<'_, '_>,
    call: &Call,
    slot: Option<Share>,
) -> Result<Packet, Refusal> {
    let Shared { admission, router, .. } = shared;
    let mut running = router.start(call.clone(), admission, slot, Instant::now())?;
    let woken = loop {
        let work = |context: &mut Context<'_>| Pin::new(&mut running).poll(context);
        let look = clock::now().checked_add(LOOK);
        let next = [look, call.deadline()].into_iter().flatten().min();
        let woken = patience.unless(Stage::Aborting, next, work).await;
        let is_late = call.deadline().is_some_and(|deadline| deadline <= clock::now());
        if !matches!(woken, Woken::Late) || is_late {
            break woken;
        }
        if stream.is_gone(admission.is_pressed()) {
            return Err(router::cancelled_by_caller());
        }
    };
    match woken {
        Woken::Done(handled) => running.finish(&admission.config, handled).0,
        Woken::Late => {
            let method = call.method().unwrap_or_default();
            admission.journal.write(Matter::Timeout, || format!("method {method:?} is past its time limit"));
            Err(router::timed_out())
        }
        Woken::Stopped => Err(router::cancelled()),
    }
}

/// Reads and drops what a peer still sends that has been answered already, within the bounds of PB-CON-13: closing at
/// once would destroy the answer on its way.
async fn linger(
    mut stream: Stream,
    shared: &Shared,
    patience: &mut Patience<'_, '_>,
    deadline: Option<Instant>,
) {
    let mut budget = LINGER_BYTES;
    while deadline.is_none_or(|deadline| clock::now() < deadline) {
        match stream.discard() {
            Ok(Read::Bytes(count)) => {
                shared.admission.stats.received(count);
                let Some(left) = budget.checked_sub(count) else { return };
                budget = left;
                // A peer that sends as fast as it is read must not keep the thread.
                ::tokio::task::yield_now().await;
            }
            Ok(Read::Nothing) => {
                let more = |context: &mut Context<'_>| stream.poll(Readiness::Read, context);
                let Woken::Done(Ok(())) = patience.unless(Stage::Aborting, deadline, more).await else {
                    return;
                };
            }
            Ok(Read::End) | Err(_) => return,
        }
    }
}

/// A call that goes on for so long is looked at, whether its peer is still there, and again after as long.
const LOOK: Duration = Duration::from_secs(1);
/// How long a request may take to arrive that finds no place among those that are waited for. Clients that send at
/// once are served so, however many others keep silent.
const SOON: Duration = Duration::from_millis(20);

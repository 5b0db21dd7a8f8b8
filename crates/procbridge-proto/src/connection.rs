//! One connection, either role: bytes and packets go in, events and bytes come out (PB-CON-*).
//!
//! A connection begins as a classic one, with one call on it (`classic.rs`). If both sides support sessions it becomes
//! a session, with any number of calls (`session.rs`, `receive.rs`). This file has the interface that both share.
//!
//! Both faces drive it the same way: write what [`transmit`](Connection::transmit) holds, read into
//! [`read_buffer`](Connection::read_buffer), deliver what [`poll_event`](Connection::poll_event) gives.

mod buffers;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::classic::{Classic, Role};
use crate::error::Misuse;
use crate::event::{CallId, Ending, Event};
use crate::limits::Limits;
use crate::packet::Packet;
use crate::session::session::{Input, Session, Side};
use crate::settings::Settings;
use crate::wire::Version;

/// The state machine of one connection.
#[derive(Debug)]
pub struct Connection {
    kind: Kind,
}

/// The two kinds of connection. A session replaces the classic state.
#[derive(Debug)]
enum Kind {
    Classic(Box<Classic>),
    Session(Box<Session>),
}

impl Connection {
    /// Creates the caller's side of a connection.
    pub fn client(limits: Limits) -> Self {
        Self { kind: Kind::Classic(Box::new(Classic::new(Role::Client, limits))) }
    }

    /// Creates the answering side of a connection.
    pub fn server(limits: Limits) -> Self {
        Self { kind: Kind::Classic(Box::new(Classic::new(Role::Server, limits))) }
    }

    /// Enables a session with these settings: a client offers it with its call, a server accepts an offer. If the peer
    /// does not support sessions the connection stays classic. Any number of connections can share the settings.
    #[must_use]
    pub fn with_session(mut self, settings: impl Into<Arc<Settings>>) -> Self {
        if let Kind::Classic(classic) = &mut self.kind {
            let (mut settings, max_body) = (settings.into(), classic.limits.max_body());
            if settings.max_body() != max_body {
                settings = Arc::new(settings.with_max_body(max_body));
            }
            classic.settings = Some(settings);
        }
        self
    }

    /// Returns the settings of the peer, once a session is established. A client may send its own later.
    pub fn peer(&self) -> Option<&Settings> {
        self.session().map(|session| &session.peer)
    }

    /// Whether a session is established.
    pub fn is_session(&self) -> bool {
        self.session().is_some()
    }

    /// Queues a request. In a session both sides can make any number of calls.
    ///
    /// # Errors
    ///
    /// - [`Misuse::WrongPacket`]: the packet is not a request, or the peer cannot read its compression. Without a
    ///   session the peer can read none.
    /// - [`Misuse::NoCallPossible`]: this connection had its call, or is a server's, or is over.
    /// - [`Misuse::GoingAway`], [`Misuse::IdsExhausted`], [`Misuse::PeerTakesNoCalls`]: the session takes no more
    ///   calls, or never took any.
    /// - [`Misuse::TooLarge`]: the body is over the peer's limit.
    pub fn call(&mut self, packet: Packet) -> Result<CallId, Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.call(packet),
            Kind::Classic(classic) => classic.call(packet),
        }
    }

    /// Queues a copy of a request, so that the caller keeps `packet` for a retry. In a session a small request is
    /// copied straight into the send queue, without an allocation of its own.
    ///
    /// # Errors
    ///
    /// The errors of [`call`](Self::call).
    pub fn call_copied(&mut self, packet: &Packet) -> Result<CallId, Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.call_copied(packet),
            Kind::Classic(classic) => classic.call(packet.clone()),
        }
    }

    /// Queues the answer to a call. The answer to a one-way call is dropped, but must be given all the same.
    ///
    /// # Errors
    ///
    /// - [`Misuse::UnknownCall`]: the call has been answered, or never came.
    /// - [`Misuse::WrongPacket`]: the packet is not a response, is not of the request's version, or the peer cannot
    ///   read its compression.
    /// - [`Misuse::TooLarge`]: the body is over the peer's limit. The call still waits for its answer.
    pub fn reply(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.reply(id, packet),
            Kind::Classic(classic) => classic.reply(id, packet),
        }
    }

    /// Queues an error as the answer to a call of a session, shortened to the peer's limit. Unlike
    /// [`reply`](Self::reply) it never fails for its size. Does nothing if the call has been answered.
    pub fn decline(&mut self, id: CallId, code: &str, message: &str) {
        if let Kind::Session(session) = &mut self.kind {
            session.decline(id, code, message);
        }
    }

    /// Queues one element of the result of a call of the peer.
    ///
    /// # Errors
    ///
    /// - [`Misuse::UnknownCall`]: the call has been answered, or never came, or is a classic one.
    /// - [`Misuse::WrongPacket`]: the packet is not an item, the caller asked for none, or the peer cannot read its
    ///   compression.
    /// - [`Misuse::NoCredit`]: the call has no credit. [`Event::Credit`] reports when it has.
    /// - [`Misuse::TooLarge`]: the item is over the peer's limit.
    pub fn item(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        self.session_mut().ok_or(Misuse::UnknownCall)?.item(id, packet)
    }

    /// Whether [`item`](Self::item) would find credit.
    pub fn may_send_item(&self, id: CallId) -> bool {
        self.session().is_some_and(|session| session.may_send_item(id))
    }

    /// Tells that the program took items of an outgoing call, and their size ([`Item::size`](crate::Item::size)). Once
    /// half of the window was taken, the peer gets credit for more.
    pub fn consumed(&mut self, id: CallId, items: u64, bytes: u64) {
        if let Kind::Session(session) = &mut self.kind {
            session.consumed(id, items, bytes);
        }
    }

    /// Tells that an [unread](crate::UnreadItem::charged) item of an outgoing call has `bytes` more than were charged
    /// for it. Call this before [`consumed`](Self::consumed) for that item.
    pub fn charge(&mut self, id: CallId, bytes: u64) {
        if let Kind::Session(session) = &mut self.kind {
            session.charge(id, bytes);
        }
    }

    /// Cancels an outgoing call. A call of which nothing was written is withdrawn ([`Event::NotRun`]), even if
    /// [`transmit`](Self::transmit) showed it. Otherwise the peer gets a CANCEL, and later packets for the call are
    /// dropped without an event. A call that has ended cannot be cancelled, nor a one-way call that was written. To
    /// cancel a classic call, close its connection.
    pub fn cancel(&mut self, id: CallId) {
        if let Kind::Session(session) = &mut self.kind {
            session.cancel(id);
        }
    }

    /// Queues a PING. [`Event::Pong`] reports the answer.
    pub fn ping(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.ping();
        }
    }

    /// Queues a GOODBYE: the session ends with the calls in flight. A second call does nothing, nor does one without a
    /// session.
    pub fn goodbye(&mut self, reason: &str) {
        if let Kind::Session(session) = &mut self.kind {
            session.goodbye(reason);
        }
    }

    /// Answers `overloaded` to the incomplete request that holds the most memory, and drops it. Returns whether there
    /// was one. Does nothing without a session; see [`refuse`](Self::refuse).
    pub fn shed(&mut self) -> bool {
        self.session_mut().is_some_and(|session| session.shed())
    }

    /// Answers a classic request that has not fully arrived, and ends the connection. A server does so at its timeout,
    /// at a limit, or in a shutdown. Does nothing if a request has arrived.
    pub fn refuse(&mut self, packet: Packet) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.refuse(packet);
        }
    }

    /// Receives `bytes`, as if they were appended to [`read_buffer`](Self::read_buffer).
    pub fn receive(&mut self, bytes: &[u8]) {
        self.read_buffer().extend_from_slice(bytes);
        self.received();
    }

    /// Processes the bytes that were appended to [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.received(),
            Kind::Classic(classic) => {
                if let Some(mut session) = classic.received() {
                    // Bytes behind the first packet belong to the session.
                    session.received();
                    self.kind = Kind::Session(Box::new(session));
                }
            }
        }
    }

    /// Notes that bytes were appended to [`read_buffer`](Self::read_buffer). In a session
    /// [`pull_event`](Self::pull_event) processes them packet by packet, so that one is handled before the next takes
    /// memory. A classic connection processes them at once, as with [`received`](Self::received).
    pub fn appended(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.frames.appended(),
            Kind::Classic(_) => self.received(),
        }
    }

    /// Returns the next event, also from bytes that were [appended](Self::appended). `None` means that all of them have
    /// been processed.
    pub fn pull_event(&mut self) -> Option<Event> {
        match &mut self.kind {
            Kind::Session(session) => session.pull_event(),
            Kind::Classic(_) => self.poll_event(),
        }
    }

    /// Frees memory that an idle session does not need. A server may have many idle sessions.
    pub fn shrink(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.ours.shrink();
            session.theirs.shrink();
            session.out.shrink();
            session.events.shrink();
        }
    }

    /// Ends the input: the peer will send nothing more.
    ///
    /// In a session the outgoing calls in flight end with it. Those of which nothing was written get
    /// [`Event::NotRun`], the others no event of their own. Incoming calls can still be answered, if the peer reads.
    pub fn receive_end(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.end(),
            Kind::Classic(classic) => classic.receive_end(),
        }
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        match &mut self.kind {
            Kind::Session(session) => session.poll_event(),
            Kind::Classic(classic) => classic.events.pop_front(),
        }
    }

    /// Returns the bytes to be written next, empty if there are none.
    pub fn transmit(&self) -> &[u8] {
        match &self.kind {
            Kind::Session(session) => session.out.transmit(),
            Kind::Classic(classic) => classic.transmit(),
        }
    }

    /// Tells that the first `count` bytes of [`transmit`](Self::transmit) have been written. No call may be cancelled
    /// between the two.
    pub fn transmitted(&mut self, count: usize) {
        match &mut self.kind {
            Kind::Session(session) => session.out.transmitted(count),
            Kind::Classic(classic) => classic.transmitted(count),
        }
    }

    /// Returns the number of bytes in the send queue.
    pub fn queued(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.out.queued(),
            Kind::Classic(classic) => classic.transmit().len(),
        }
    }

    /// Whether any byte has been written. If not, the call cannot have run.
    pub fn has_transmitted(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.side == Side::Opener || session.out.written() > 0,
            Kind::Classic(classic) => classic.has_transmitted(),
        }
    }

    /// Whether any byte of an outgoing call has been written. If not, the call cannot have run.
    pub fn was_sent(&self, id: CallId) -> bool {
        match &self.kind {
            Kind::Session(session) => session.was_sent(id),
            Kind::Classic(classic) => classic.is_client() && classic.has_transmitted(),
        }
    }

    /// Whether more input is needed: a packet is expected and has not fully arrived. In a session that is so until its
    /// end.
    pub fn wants_input(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.input == Input::Open,
            Kind::Classic(classic) => classic.wants_input(),
        }
    }

    /// Whether the header of the packet that is arriving is complete.
    pub fn has_header(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.frames.has_header(),
            Kind::Classic(classic) => classic.decoder.has_header(),
        }
    }

    /// Whether a packet is incomplete, or in a session a body in pieces.
    pub fn is_receiving(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.frames.is_inside() || session.pieces.is_any_open(),
            Kind::Classic(classic) => classic.wants_input() && !classic.decoder.is_empty(),
        }
    }

    /// Returns the bytes of memory held for incomplete packets, and in a session for incomplete bodies in pieces.
    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.frames.held() + session.pieces.held(),
            Kind::Classic(classic) => classic.decoder.held(),
        }
    }

    /// Takes the memory of large bodies that is not needed any more. Freeing it may take long, so the program does that
    /// outside the session's lock. At most two buffers wait for it.
    pub fn take_waste(&mut self) -> Vec<Vec<u8>> {
        self.session_mut().map(|session| session.out.take_waste()).unwrap_or_default()
    }

    /// Returns how to close this connection once everything is written.
    pub fn ending(&self) -> Ending {
        match &self.kind {
            Kind::Session(session) => session.ending(),
            Kind::Classic(classic) => classic.ending,
        }
    }

    /// Returns the version to answer in: that of the request if it is known, else 1.1.
    pub fn version(&self) -> Version {
        match &self.kind {
            Kind::Session(_) => Version::V1_1,
            Kind::Classic(classic) => classic.version(),
        }
    }

    /// Returns the number of incoming calls in flight, including those whose request has not fully arrived.
    pub fn served_calls(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.theirs.len(),
            Kind::Classic(classic) => usize::from(classic.is_serving()),
        }
    }

    /// Whether incoming calls are in flight and have reached this side's concurrency limit, so that the end of one makes
    /// room for the next. A side that takes no calls is never full.
    pub fn is_full(&self) -> bool {
        self.session().is_some_and(|session| {
            !session.theirs.is_empty() && session.theirs.len() >= session.settings.max_calls() as usize
        })
    }

    /// Returns the number of outgoing calls in flight, including cancelled ones that are not answered yet.
    pub fn pending_calls(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.ours.len(),
            Kind::Classic(classic) => usize::from(classic.is_client() && classic.wants_input()),
        }
    }

    /// Returns the number of PINGs received.
    pub fn pings(&self) -> u64 {
        self.session().map_or(0, |session| session.pings)
    }

    /// Returns the number of packets received on the session.
    pub fn received_packets(&self) -> u64 {
        self.session().map_or(0, |session| session.packets)
    }

    /// Returns the number of incoming one-way calls that were refused. Their caller gets no answer.
    pub fn dropped_calls(&self) -> u64 {
        self.session().map_or(0, |session| session.dropped)
    }

    /// Whether one of the sides sent GOODBYE.
    pub fn is_leaving(&self) -> bool {
        self.session().is_some_and(|session| session.is_leaving())
    }

    /// Whether the connection is to be closed: it is over or one side sent GOODBYE, no call is in flight, and
    /// everything is written.
    pub fn is_finished(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.is_finished(),
            Kind::Classic(classic) => classic.is_over() && classic.transmit().is_empty(),
        }
    }

    fn session(&self) -> Option<&Session> {
        match &self.kind {
            Kind::Session(session) => Some(session),
            Kind::Classic(_) => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.kind {
            Kind::Session(session) => Some(session),
            Kind::Classic(_) => None,
        }
    }
}

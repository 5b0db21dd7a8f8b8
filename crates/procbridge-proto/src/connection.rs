//! One connection, either role: bytes and packets go in, events and bytes come out (PB-CON-*).
//!
//! A connection begins as a classic one, with one call on it (`classic.rs`). Where both sides can hold a session it
//! becomes one, with any number of calls (`session.rs`, `intake.rs`). Here is what both have in common.
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

/// What a connection is. Once it is a session, that is all that matters.
#[derive(Debug)]
enum Kind {
    Classic(Box<Classic>),
    Session(Box<Session>),
}

impl Connection {
    /// The caller's side.
    pub fn client(limits: Limits) -> Self {
        Self { kind: Kind::Classic(Box::new(Classic::new(Role::Client, limits))) }
    }

    /// The answering side.
    pub fn server(limits: Limits) -> Self {
        Self { kind: Kind::Classic(Box::new(Classic::new(Role::Server, limits))) }
    }

    /// Makes this side hold a session, on these terms: a client offers it with its call, a server accepts an offer.
    /// Where the other side wants none, everything is as without it. Any number of connections can share the terms.
    #[must_use]
    pub fn with_session(mut self, terms: impl Into<Arc<Settings>>) -> Self {
        if let Kind::Classic(classic) = &mut self.kind {
            let (mut terms, max_body) = (terms.into(), classic.limits.max_body());
            if terms.max_body() != max_body {
                terms = Arc::new(terms.with_max_body(max_body));
            }
            classic.terms = Some(terms);
        }
        self
    }

    /// What the other side said of itself, once a session is established. A client may tell its terms late.
    pub fn peer(&self) -> Option<&Settings> {
        self.session().map(|session| &session.peer)
    }

    /// Whether a session is established.
    pub fn is_session(&self) -> bool {
        self.session().is_some()
    }

    /// Queues a request. In a session any number of calls can be made, by both sides.
    ///
    /// # Errors
    ///
    /// - [`Misuse::WrongPacket`]: the packet is not a request, or is compressed in a way that the other side cannot
    ///   read; without a session that is every way.
    /// - [`Misuse::NoCallPossible`]: this connection had its call, or is a server's, or is over.
    /// - [`Misuse::GoingAway`], [`Misuse::IdsExhausted`], [`Misuse::PeerTakesNoCalls`]: the session takes no more,
    ///   or never took any.
    /// - [`Misuse::TooLarge`]: the body is over the limit that the peer told.
    pub fn call(&mut self, packet: Packet) -> Result<CallId, Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.call(packet),
            Kind::Classic(classic) => classic.call(packet),
        }
    }

    /// Queues a copy of a request, so that `packet` is at hand if it has to be sent again. In a session a small one is
    /// copied to where it is written from, without memory of its own.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call).
    pub fn call_copied(&mut self, packet: &Packet) -> Result<CallId, Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.call_copied(packet),
            Kind::Classic(classic) => classic.call(packet.clone()),
        }
    }

    /// Queues the answer to a call. The answer to one that wants none is dropped, but must be given all the same.
    ///
    /// # Errors
    ///
    /// - [`Misuse::UnknownCall`]: the call has been answered, or never came.
    /// - [`Misuse::WrongPacket`]: the packet is not a response, not of the version that was asked in, or compressed in
    ///   a way that the other side cannot read.
    /// - [`Misuse::TooLarge`]: the body is over the limit that the peer told. The call still waits for its answer.
    pub fn reply(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        match &mut self.kind {
            Kind::Session(session) => session.reply(id, packet),
            Kind::Classic(classic) => classic.reply(id, packet),
        }
    }

    /// Queues an error as the answer to a call of a session, shortened to what the peer takes: unlike
    /// [`reply`](Self::reply) it never fails for its size. Nothing happens if the call has been answered.
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
    /// - [`Misuse::WrongPacket`]: the packet is not an item, the caller asked for none, or it is compressed in a way
    ///   that the other side cannot read.
    /// - [`Misuse::NoCredit`]: the caller takes no more for now; [`Event::Credit`] tells when it does.
    /// - [`Misuse::TooLarge`]: the item is over the limit that the peer told.
    pub fn item(&mut self, id: CallId, packet: Packet) -> Result<(), Misuse> {
        self.session_mut().ok_or(Misuse::UnknownCall)?.item(id, packet)
    }

    /// Whether [`item`](Self::item) would find credit.
    pub fn may_send_item(&self, id: CallId) -> bool {
        self.session().is_some_and(|session| session.may_send_item(id))
    }

    /// Tells that items of a call of ours were taken, and how large they were ([`Item::size`](crate::Item::size)). The peer is given
    /// credit for more once half of what it may send ahead was taken.
    pub fn consumed(&mut self, id: CallId, items: u64, bytes: u64) {
        if let Kind::Session(session) = &mut self.kind {
            session.consumed(id, items, bytes);
        }
    }

    /// Tells that an item of a call of ours that came [unread](crate::UnreadItem::charged) has `bytes` more than were charged
    /// for it. Before it is told that the item was [consumed](Self::consumed).
    pub fn charge(&mut self, id: CallId, bytes: u64) {
        if let Kind::Session(session) = &mut self.kind {
            session.charge(id, bytes);
        }
    }

    /// Gives up a call of ours. If nothing of it was written it is taken back ([`Event::NotRun`]), be it that
    /// [`transmit`](Self::transmit) showed it. Otherwise the peer is told, and what it still sends for the call is
    /// dropped without an event. A call that has ended, and one without answer that is written, cannot be given up
    /// any more. A classic call is given up by closing its connection.
    pub fn cancel(&mut self, id: CallId) {
        if let Kind::Session(session) = &mut self.kind {
            session.cancel(id);
        }
    }

    /// Asks whether the peer is there; [`Event::Pong`] says so.
    pub fn ping(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.ping();
        }
    }

    /// Tells the peer that the session ends with the calls in flight. Telling it twice tells it once. Without a
    /// session there is nothing to tell.
    pub fn goodbye(&mut self, reason: &str) {
        if let Kind::Session(session) = &mut self.kind {
            session.goodbye(reason);
        }
    }

    /// Answers `overloaded` to the request that holds the most memory of those that have not fully arrived, and drops
    /// it. Tells whether there was one. Only sessions have them; see [`refuse`](Self::refuse).
    pub fn shed(&mut self) -> bool {
        self.session_mut().is_some_and(|session| session.shed())
    }

    /// Server: answers a request that has not fully arrived, because the server will not wait for the rest (it is
    /// out of time, full or stopping), and ends the connection. Nothing happens if a request has arrived.
    pub fn refuse(&mut self, packet: Packet) {
        if let Kind::Classic(classic) = &mut self.kind {
            classic.refuse(packet);
        }
    }

    /// Takes in `bytes`: the same as appending them to [`read_buffer`](Self::read_buffer).
    pub fn receive(&mut self, bytes: &[u8]) {
        self.read_buffer().extend_from_slice(bytes);
        self.received();
    }

    /// Looks at what was appended to [`read_buffer`](Self::read_buffer).
    pub fn received(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.received(),
            Kind::Classic(classic) => {
                if let Some(mut session) = classic.received() {
                    // What came behind the first packet belongs to the session.
                    session.received();
                    self.kind = Kind::Session(Box::new(session));
                }
            }
        }
    }

    /// The same as [`received`](Self::received), but for the packets of a session, which are only looked at one by one, by
    /// [`pull_event`](Self::pull_event): so each can be dealt with before the next one takes memory.
    pub fn appended(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.frames.appended(),
            Kind::Classic(_) => self.received(),
        }
    }

    /// The next thing that happened, be it by what was [appended](Self::appended). After the last one all of that has been
    /// looked at.
    pub fn pull_event(&mut self) -> Option<Event> {
        match &mut self.kind {
            Kind::Session(session) => session.pull_event(),
            Kind::Classic(_) => self.poll_event(),
        }
    }

    /// Gives back memory for calls that a quiet session does not need. Many of them may be open and do nothing.
    pub fn shrink(&mut self) {
        if let Kind::Session(session) = &mut self.kind {
            session.ours.shrink();
            session.theirs.shrink();
            session.out.shrink();
            session.events.shrink();
        }
    }

    /// Takes in the end of the input: the peer will send nothing more.
    ///
    /// In a session the calls of ours that are in flight end with it. Those of which nothing was written get
    /// [`Event::NotRun`], the others no event of their own. Calls of the peer can still be answered, if it reads.
    pub fn receive_end(&mut self) {
        match &mut self.kind {
            Kind::Session(session) => session.end(),
            Kind::Classic(classic) => classic.receive_end(),
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        match &mut self.kind {
            Kind::Session(session) => session.poll_event(),
            Kind::Classic(classic) => classic.events.pop_front(),
        }
    }

    /// The bytes to be written next, empty if there are none.
    pub fn transmit(&self) -> &[u8] {
        match &self.kind {
            Kind::Session(session) => session.out.transmit(),
            Kind::Classic(classic) => classic.transmit(),
        }
    }

    /// Tells that the first `count` bytes of [`transmit`](Self::transmit) have been written. Between the two nothing
    /// may be cancelled.
    pub fn transmitted(&mut self, count: usize) {
        match &mut self.kind {
            Kind::Session(session) => session.out.transmitted(count),
            Kind::Classic(classic) => classic.transmitted(count),
        }
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.out.queued(),
            Kind::Classic(classic) => classic.transmit().len(),
        }
    }

    /// Whether any byte has been written. A call none of whose bytes was written has not happened.
    pub fn has_transmitted(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.side == Side::Opener || session.out.written() > 0,
            Kind::Classic(classic) => classic.has_transmitted(),
        }
    }

    /// Whether any byte of a call of ours has been written. One that was not has not happened.
    pub fn was_sent(&self, id: CallId) -> bool {
        match &self.kind {
            Kind::Session(session) => session.was_sent(id),
            Kind::Classic(classic) => classic.is_client() && classic.has_transmitted(),
        }
    }

    /// Whether more input is needed: a packet is expected and has not fully arrived. In a session that is so until
    /// it is over.
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

    /// Whether something has begun to arrive and is not whole: a packet, or in a session a body in pieces.
    pub fn is_receiving(&self) -> bool {
        match &self.kind {
            Kind::Session(session) => session.frames.is_inside() || session.pieces.is_any_open(),
            Kind::Classic(classic) => classic.wants_input() && !classic.decoder.is_empty(),
        }
    }

    /// Bytes of memory held for what has not fully arrived: packets, and in a session bodies in pieces.
    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.frames.held() + session.pieces.held(),
            Kind::Classic(classic) => classic.decoder.held(),
        }
    }

    /// Takes the memory of large bodies away that is not needed any more, to be freed where that holds up no other call:
    /// that may take long. What nobody takes is bounded.
    pub fn take_waste(&mut self) -> Vec<Vec<u8>> {
        self.session_mut().map(|session| session.out.take_waste()).unwrap_or_default()
    }

    /// How to close this connection once everything is written.
    pub fn ending(&self) -> Ending {
        match &self.kind {
            Kind::Session(session) => session.ending(),
            Kind::Classic(classic) => classic.ending,
        }
    }

    /// The version to answer in, as far as it is known: that of the request, else 1.1.
    pub fn version(&self) -> Version {
        match &self.kind {
            Kind::Session(_) => Version::V1_1,
            Kind::Classic(classic) => classic.version(),
        }
    }

    /// Calls of the peer in flight, those whose request has not fully arrived included.
    pub fn served_calls(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.theirs.len(),
            Kind::Classic(classic) => usize::from(classic.is_serving()),
        }
    }

    /// Whether the peer has as many calls in flight as this side takes at a time.
    pub fn is_full(&self) -> bool {
        self.session().is_some_and(|session| session.theirs.len() >= session.terms.max_calls() as usize)
    }

    /// Calls of ours in flight, those that were given up and not answered yet included.
    pub fn pending_calls(&self) -> usize {
        match &self.kind {
            Kind::Session(session) => session.ours.len(),
            Kind::Classic(classic) => usize::from(classic.is_client() && classic.wants_input()),
        }
    }

    /// How many PINGs came in so far.
    pub fn pings(&self) -> u64 {
        self.session().map_or(0, |session| session.pings)
    }

    /// How many packets came in on the session so far.
    pub fn received_packets(&self) -> u64 {
        self.session().map_or(0, |session| session.packets)
    }

    /// How many one-way calls of the peer were not taken so far: their caller hears nothing of it.
    pub fn dropped_calls(&self) -> u64 {
        self.session().map_or(0, |session| session.dropped)
    }

    /// Whether one of the sides said goodbye.
    pub fn is_leaving(&self) -> bool {
        self.session().is_some_and(|session| session.is_leaving())
    }

    /// Whether nothing is left to do: the connection is over or one side said goodbye, no call is in flight and
    /// everything is written. Then it is to be closed.
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

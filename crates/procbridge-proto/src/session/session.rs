//! One side of a session: its outgoing and incoming calls, and the program's operations on them
//! (PB-FLT-*, PB-CAN-*, PB-BYE-*).
//!
//! `receive.rs` processes the packets that arrive.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::call_table::CallTable;
use crate::error::{Misuse, ProtocolError};
use crate::event::{CallId, Event};
use crate::event_queue::EventQueue;
use crate::limits::Limits;
use crate::packet::{FRONT, Packet};
use crate::session::draft::Draft;
use crate::session::flow_control::{ReceiveWindow, SendCredit};
use crate::session::frames::Frames;
use crate::session::reassembly::Reassembly;
use crate::session::send_queue::{PIECE, SendQueue, Withdrawn};
use crate::settings::Settings;
use crate::wire::{Status, Version, flag};

/// The state of an established session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) side: Side,
    pub(crate) limits: Limits,
    pub(crate) settings: Arc<Settings>,
    pub(crate) peer: Settings,
    /// Opener: whether it has sent its settings. Acceptor: whether the opener's settings have arrived.
    pub(crate) opener_spoke: bool,
    pub(crate) frames: Frames,
    pub(crate) pieces: Reassembly,
    pub(crate) out: SendQueue,
    pub(crate) events: EventQueue,
    pub(crate) ours: CallTable<OutgoingCall>,
    pub(crate) theirs: CallTable<IncomingCall>,
    /// The id of the next outgoing call, and the highest one of an incoming call so far.
    pub(crate) next_id: u64,
    pub(crate) highest: u32,
    /// The last id of the GOODBYE that was sent, and of the one that was received.
    pub(crate) said: Option<u32>,
    pub(crate) heard: Option<u32>,
    pub(crate) input: Input,
    pub(crate) unknown_left: u8,
    pub(crate) pings: u64,
    pub(crate) packets: u64,
    /// The bytes of requests among the queued events.
    pub(crate) untold: u64,
    /// The number of one-way calls that were refused.
    pub(crate) dropped: u64,
}

/// Which side of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Made the connection; its calls have odd ids.
    Opener,
    /// Accepted it; its calls have even ids.
    Acceptor,
}

/// Whether the peer may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    /// The peer sends nothing more. Incoming calls may still be answered.
    Ended,
    /// The session has ended with an error.
    Failed,
}

/// An outgoing call.
#[derive(Debug, Default)]
pub(crate) struct OutgoingCall {
    pub(crate) stream: Option<Box<ReceiveWindow>>,
    /// Whether the call was given up. Later packets for it are dropped.
    pub(crate) discarded: bool,
}

/// An incoming call.
#[derive(Debug, Default)]
pub(crate) struct IncomingCall {
    pub(crate) stream: Option<Box<SendCredit>>,
    pub(crate) one_way: bool,
    pub(crate) cancelled: bool,
}

impl Session {
    pub(crate) fn new(side: Side, limits: Limits, settings: Arc<Settings>, peer: Settings) -> Self {
        Self {
            side,
            limits,
            settings,
            peer,
            opener_spoke: false,
            frames: Frames::default(),
            pieces: Reassembly::default(),
            out: SendQueue::default(),
            events: EventQueue::default(),
            ours: CallTable::default(),
            theirs: CallTable::default(),
            next_id: side.first_id(),
            highest: 0,
            said: None,
            heard: None,
            input: Input::Open,
            unknown_left: MAX_UNKNOWN,
            pings: 0,
            packets: 0,
            untold: 0,
            dropped: 0,
        }
    }

    /// Enters the call of the offer, as the opener. Sends its settings unless they are the defaults of a side without
    /// HELLO.
    pub(crate) fn opened(&mut self, flags: u8) {
        self.enter(flags);
        if *self.settings != Settings::unknown(self.settings.codecs()) {
            let mut buffer = front();
            self.settings.write(&mut buffer);
            let options = self.settings.codecs().bits();
            let (kind, flags, id) = (Status::HELLO, flag::SESSION, 0);
            self.out.push(Draft { kind, flags, options, id, buffer });
            self.opener_spoke = true;
        }
    }

    /// Sends the acceptor's settings, and enters the call of the offer.
    pub(crate) fn accepted(&mut self, flags: u8) {
        let mut buffer = front();
        self.settings.write(&mut buffer);
        self.out.push_hello(buffer, self.settings.codecs().bits());
        self.highest = 1;
        self.serve(self.highest, flags);
    }

    /// Enters an incoming call.
    pub(crate) fn serve(&mut self, id: u32, flags: u8) {
        let one_way = flags & flag::ONE_WAY != 0;
        let streams = flags & flag::STREAM != 0 && !one_way;
        let stream = streams.then(|| Box::new(SendCredit::of(&self.peer)));
        self.theirs.insert(CallId(id), IncomingCall { stream, one_way, cancelled: false });
    }

    pub(crate) fn call(&mut self, packet: Packet) -> Result<CallId, Misuse> {
        let id = self.begin(&packet)?;
        self.queue(id, packet);
        Ok(CallId(id))
    }

    /// Does the same as [`call`](Self::call) with a copy of `packet`.
    pub(crate) fn call_copied(&mut self, packet: &Packet) -> Result<CallId, Misuse> {
        let content = packet.buffer.get(FRONT..).unwrap_or_default();
        if content.len() > PIECE {
            return self.call(packet.clone());
        }
        let id = self.begin(packet)?;
        self.out.push_request(id, packet.flags, content);
        Ok(CallId(id))
    }

    /// Enters the outgoing call of `packet`, if the session takes it.
    fn begin(&mut self, packet: &Packet) -> Result<u32, Misuse> {
        if packet.status != Status::REQUEST {
            return Err(Misuse::WrongPacket);
        }
        if self.input != Input::Open {
            return Err(Misuse::NoCallPossible);
        }
        if self.is_leaving() {
            return Err(Misuse::GoingAway);
        }
        if self.peer.max_calls() == 0 {
            return Err(Misuse::PeerTakesNoCalls);
        }
        self.check(packet, self.peer.max_body())?;
        if self.next_id > u64::from(u32::MAX) {
            self.goodbye("call ids are used up");
            return Err(Misuse::IdsExhausted);
        }
        Ok(self.enter(packet.flags))
    }

    /// Enters an outgoing call.
    fn enter(&mut self, flags: u8) -> u32 {
        let id = u32::try_from(self.next_id).unwrap_or(u32::MAX);
        self.next_id += 2;
        if flags & flag::ONE_WAY == 0 {
            let stream = (flags & flag::STREAM != 0).then(|| {
                let told = self.side == Side::Acceptor || self.opener_spoke;
                Box::new(ReceiveWindow::new(if told {
                    SendCredit::of(&self.settings)
                } else {
                    SendCredit::silent()
                }))
            });
            self.ours.insert(CallId(id), OutgoingCall { stream, discarded: false });
        }
        id
    }

    pub(crate) fn reply(&mut self, CallId(id): CallId, packet: Packet) -> Result<(), Misuse> {
        let call = self.theirs.get(CallId(id)).ok_or(Misuse::UnknownCall)?;
        if packet.status != Status::GOOD && packet.status != Status::BAD {
            return Err(Misuse::WrongPacket);
        }
        if !call.one_way {
            // PB-HEL-13: the opener's body limit is not known yet.
            let is_known = id != 1 || self.side == Side::Opener || self.opener_spoke;
            let own = if is_known { 0 } else { self.limits.max_body() };
            self.check(&packet, self.peer.max_body().max(own))?;
            self.queue(id, packet);
        }
        self.theirs.remove(CallId(id));
        Ok(())
    }

    pub(crate) fn item(&mut self, CallId(id): CallId, packet: Packet) -> Result<(), Misuse> {
        let call = self.theirs.get(CallId(id)).ok_or(Misuse::UnknownCall)?;
        let Some(credit) = call.stream.as_deref().filter(|_| packet.status == Status::ITEM) else {
            return Err(Misuse::WrongPacket);
        };
        if !credit.is_there() {
            return Err(Misuse::NoCredit);
        }
        self.check(&packet, self.peer.max_body())?;
        if let Some(credit) = self.theirs.get_mut(CallId(id)).and_then(|call| call.stream.as_deref_mut()) {
            credit.spend(packet.json_len());
        }
        self.queue(id, packet);
        Ok(())
    }

    pub(crate) fn may_send_item(&self, CallId(id): CallId) -> bool {
        let credit = self.theirs.get(CallId(id)).and_then(|call| call.stream.as_deref());
        credit.is_some_and(SendCredit::is_there)
    }

    pub(crate) fn consumed(&mut self, CallId(id): CallId, items: u64, bytes: u64) {
        let call = self.ours.get_mut(CallId(id)).filter(|call| !call.discarded);
        let Some(window) = call.and_then(|call| call.stream.as_deref_mut()) else { return };
        if let Some((items, bytes)) = window.taken(items, bytes) {
            let text = format!("{{\"items\":{items},\"bytes\":{bytes}}}");
            self.send(Status::CREDIT, id, text.as_bytes());
        }
    }

    pub(crate) fn charge(&mut self, CallId(id): CallId, bytes: u64) {
        if let Some(window) = self.ours.get_mut(CallId(id)).and_then(|call| call.stream.as_deref_mut()) {
            window.credit.charge(bytes);
        }
    }

    pub(crate) fn cancel(&mut self, CallId(id): CallId) {
        if !self.is_own(id) || self.input == Input::Failed {
            return;
        }
        self.events.retain(|event| event.answered_call() != Some(CallId(id)));
        let taken = self.out.withdraw(id);
        let in_flight = match self.ours.get_mut(CallId(id)) {
            _ if taken == Withdrawn::Whole => {
                self.ours.remove(CallId(id));
                self.events.push(Event::NotRun { id: CallId(id) });
                return;
            }
            Some(call) => !core::mem::replace(&mut call.discarded, true),
            None => false,
        };
        if in_flight {
            self.pieces.discard(id);
        }
        if in_flight || taken == Withdrawn::Rest {
            self.send(Status::CANCEL, id, b"{}");
        }
    }

    pub(crate) fn ping(&mut self) {
        if self.input == Input::Open {
            self.send(Status::PING, 0, b"{}");
        }
    }

    /// Refuses a request with an answer, or without one if it is one-way. Expects late pieces of it.
    pub(crate) fn refuse(
        &mut self,
        id: u32,
        flags: u8,
        code: &str,
        message: &str,
    ) -> Result<(), ProtocolError> {
        // A call that is not in the table begins with this piece.
        let one_way = self.theirs.remove(CallId(id)).map_or(flags & flag::ONE_WAY != 0, |call| call.one_way);
        self.pieces.forget(id);
        if one_way {
            self.dropped += 1;
        } else {
            self.answer(id, code, message);
        }
        if flags & flag::MORE != 0 { self.pieces.expect_late(id) } else { Ok(()) }
    }

    /// Answers an incoming call with an error, shortened to the peer's limit.
    pub(crate) fn decline(&mut self, CallId(id): CallId, code: &str, message: &str) {
        if self.theirs.remove(CallId(id)).is_some_and(|call| !call.one_way) {
            self.answer(id, code, message);
        }
    }

    /// Queues a bad response.
    pub(crate) fn answer(&mut self, id: u32, code: &str, message: &str) {
        let packet = Packet::bad(Version::V1_1, message, Some(code)).finish(&Limits::default());
        match packet {
            Ok(packet) if self.check(&packet, self.peer.max_body()).is_ok() => self.queue(id, packet),
            // The message is over the peer's body limit.
            _ => self.send(Status::BAD, id, b"{}"),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        // The event is checked in the queue, as moving it is expensive.
        loop {
            let stale = match self.events.first()? {
                event @ (Event::Request { .. } | Event::Unread { .. }) => {
                    // The request of the offer came alone and was not counted.
                    self.untold = self.untold.saturating_sub(event.request_bytes());
                    false
                }
                // Such an event of an answered call is of no use.
                Event::Cancelled { id } | Event::Credit { id } => self.theirs.get(*id).is_none(),
                _ => false,
            };
            if !stale || self.input == Input::Failed {
                return self.events.pop();
            }
            self.events.pop();
        }
    }

    pub(crate) fn was_sent(&self, CallId(id): CallId) -> bool {
        self.is_own(id) && !self.out.is_unsent(id)
    }

    /// Whether this side has made a call with this id.
    pub(crate) fn is_own(&self, id: u32) -> bool {
        id != 0 && self.side.owns(id) && u64::from(id) < self.next_id
    }

    /// Checks that the peer can read a packet, whose text may have `limit` bytes.
    fn check(&self, packet: &Packet, limit: u32) -> Result<(), Misuse> {
        let readable = packet.codec().is_none_or(|codec| self.peer.codecs().contains(codec));
        if packet.version != Version::V1_1 || !readable {
            return Err(Misuse::WrongPacket);
        }
        let length = packet.json_len();
        if length > limit as usize { Err(Misuse::TooLarge { length, limit }) } else { Ok(()) }
    }

    fn queue(&mut self, id: u32, packet: Packet) {
        let Packet { status: kind, flags, buffer, .. } = packet;
        self.out.push(Draft { kind, flags, options: 0, id, buffer });
    }

    pub(crate) fn send(&mut self, kind: Status, id: u32, content: &[u8]) {
        let mut buffer = front();
        buffer.extend_from_slice(content);
        self.out.push(Draft { kind, flags: 0, options: 0, id, buffer });
    }
}

impl Side {
    fn first_id(self) -> u64 {
        match self {
            Self::Opener => 1,
            Self::Acceptor => 2,
        }
    }

    /// Whether a call with this id belongs to this side.
    pub(crate) fn owns(self, id: u32) -> bool {
        (id % 2 == 1) == (self == Self::Opener)
    }
}

/// Returns a buffer with free bytes for header and call id.
fn front() -> Vec<u8> {
    let mut buffer = Vec::with_capacity(FIRST_CAPACITY);
    buffer.resize(FRONT, 0);
    buffer
}

/// The initial capacity for the short packets of a session itself.
const FIRST_CAPACITY: usize = 64;

/// The largest content of HELLO, CREDIT, CANCEL, PONG and GOODBYE, in bytes.
pub(crate) const MAX_CONTROL: u32 = 64 * 1024;

/// The largest content of a PING, in bytes.
pub(crate) const MAX_PING: usize = 1024;

/// The number of packets of unknown kinds that are skipped before one of a known kind must come.
pub(crate) const MAX_UNKNOWN: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_wrap() {
        for (side, last) in [(Side::Opener, u32::MAX), (Side::Acceptor, u32::MAX - 1)] {
            let mut session = Session::new(side, Limits::default(), Arc::default(), Settings::new());
            session.next_id = u64::from(last);
            let request =
                || Packet::request(Version::V1_1, Some("m"), None).finish(&Limits::default()).unwrap();
            let id = session.call(request()).unwrap();
            assert_eq!((id.number(), session.is_own(last), session.is_leaving()), (last, true, false));
            assert_eq!(session.call(request()), Err(Misuse::IdsExhausted));
            // That said goodbye; the calls in flight go on.
            assert_eq!(session.call(request()), Err(Misuse::GoingAway));
            assert!(session.is_leaving() && !session.is_finished());
            assert_eq!(session.ours.len(), 1);
        }
    }
}

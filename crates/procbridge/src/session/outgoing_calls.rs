//! An outgoing call on a session, from when it is queued to its one end (PB-OUT-*).

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use procbridge_proto::{CallId, Item, Misuse, Packet, ProtocolError, UnreadItem};

use crate::error::Sent;
use crate::session::call_slot::{CallEnd, Slot};
use crate::session::context::SessionContext;
use crate::session::leader::{Follower, Step};
use crate::session::received::Received;
use crate::session::session::{BeginError, Session};
use crate::session::state::State;
use crate::session::waker::keep_waker;

/// An outgoing call that its caller waits for. Dropping it cancels the call, if it has not ended.
#[derive(Debug)]
pub(crate) struct PendingCall {
    session: Arc<Session>,
    id: CallId,
    over: bool,
}

impl Session {
    /// Begins a call, and writes as much of it as the socket takes.
    pub(crate) fn begin(self: &Arc<Self>, packet: Packet) -> Result<PendingCall, BeginError> {
        let id = self.send(packet, true)?;
        Ok(PendingCall { session: self.clone(), id, over: false })
    }

    /// Begins a call with a copy of `packet`, if the session was checked `since`, and registers `waker` for its end.
    /// The task that drives the session ends the call at the `deadline`, if there is one. Returns `None` if the session
    /// cannot be used as it is.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin_copied(
        self: &Arc<Self>,
        packet: &Packet,
        since: Option<Instant>,
        deadline: Option<Instant>,
        waker: &Waker,
    ) -> Result<Option<PendingCall>, BeginError> {
        self.with(|state| {
            if !state.is_open()
                || since.is_some_and(|since| state.keepalive.seen() < since)
                || !state.has_permit(None)
            {
                return Ok(None);
            }
            let id = state.connection.call_copied(packet).map_err(BeginError::of)?;
            let is_only_call = state.outgoing.calls.is_empty();
            let waker = Some(waker.clone());
            state.outgoing.calls.insert(id, Slot { waker, deadline, ..Slot::default() });
            state.flush_later(self, is_only_call);
            if let Some(deadline) = deadline {
                state.schedule(deadline);
            }
            Ok(Some(PendingCall { session: self.clone(), id, over: false }))
        })
    }

    /// Sends a one-way call.
    pub(crate) fn notify(self: &Arc<Self>, packet: Packet) -> Result<CallId, BeginError> {
        self.send(packet, false)
    }

    /// Whether any byte of a one-way call was written.
    pub(crate) fn has_sent(&self, id: CallId) -> Sent {
        self.with(|state| Sent::of(&state.connection, id))
    }

    /// Takes back a one-way call, as far as it is not written. Returns whether any byte of it was: both under one lock.
    pub(crate) fn take_back(&self, id: CallId) -> Sent {
        self.with(|state| {
            let sent = Sent::of(&state.connection, id);
            if !state.has_ended() {
                state.connection.cancel(id);
                state.flush(self);
            }
            sent
        })
    }

    /// Returns the call that opened this session.
    pub(crate) fn pending(self: &Arc<Self>, id: CallId) -> PendingCall {
        PendingCall { session: self.clone(), id, over: false }
    }

    /// Returns a call that was begun, and has ended if it is `over`.
    pub(super) fn pending_after(self: &Arc<Self>, id: CallId, over: bool) -> PendingCall {
        PendingCall { session: self.clone(), id, over }
    }

    /// Cancels all outgoing calls that are in flight, and wakes their callers.
    pub(crate) fn cancel_calls(&self) {
        self.with(|state| {
            let waiting = state.outgoing.calls.iter().filter(|(_, slot)| slot.answer.is_none());
            let waiting: Vec<_> = waiting.map(|(id, _)| id).collect();
            for id in waiting {
                state.cancel(id, |sent| CallEnd::Cancelled { sent });
            }
            state.cancel_queued();
            state.flush(self);
        });
    }

    fn send(&self, packet: Packet, is_answered: bool) -> Result<CallId, BeginError> {
        self.with(|state| state.send(self, packet, is_answered))
    }
}

impl BeginError {
    fn of(misuse: Misuse) -> Self {
        match misuse {
            Misuse::GoingAway | Misuse::IdsExhausted => Self::Gone,
            misuse => Self::Misuse(misuse),
        }
    }
}

impl State {
    pub(super) fn send(
        &mut self,
        context: &SessionContext,
        packet: Packet,
        is_answered: bool,
    ) -> Result<CallId, BeginError> {
        let is_large = packet.json_len() > LARGE;
        let id = self.begin(packet)?;
        let is_only_call = self.outgoing.calls.is_empty();
        if is_answered {
            self.outgoing.calls.insert(id, Slot { is_large, ..Slot::default() });
        }
        self.flush_later(context, is_only_call);
        Ok(id)
    }

    pub(super) fn begin(&mut self, packet: Packet) -> Result<CallId, BeginError> {
        if !self.is_open() {
            return Err(BeginError::Gone);
        }
        self.connection.call(packet).map_err(BeginError::of)
    }

    /// Cancels an outgoing call. Its caller gets what `answer` makes of whether any byte of it was written.
    fn cancel(&mut self, id: CallId, answer: fn(Sent) -> CallEnd) {
        let sent = Sent::of(&self.connection, id);
        self.connection.cancel(id);
        self.end_call(id, answer(sent));
    }

    /// Flushes a queued call: at once if it is the only one in flight.
    pub(super) fn flush_later(&mut self, context: &SessionContext, is_only_call: bool) {
        if is_only_call {
            self.flush(context);
        } else {
            self.flush_soon(context);
        }
    }

    /// Makes the task that drives the session end a call at `deadline`. Most calls have the same timeout, so only the
    /// first of many wakes the task.
    #[cfg(feature = "tokio")]
    fn schedule(&mut self, deadline: Instant) {
        let due = self.outgoing.deadlines.get_or_insert_default();
        if due.calls.is_none_or(|calls| deadline < calls) {
            due.calls = Some(deadline);
            if due.planned.is_none_or(|planned| deadline < planned) {
                self.wake_standby();
            }
        }
    }

    /// Notes that the program has taken an item of so many bytes, and returns their credit to the peer.
    fn consume(&mut self, context: &SessionContext, id: CallId, bytes: u64) {
        self.connection.consumed(id, 1, bytes);
        if self.connection.queued() > 0 {
            self.flush_soon(context);
        }
    }

    /// Returns the earliest deadline of the outgoing calls.
    #[cfg(feature = "tokio")]
    pub(super) fn calls_due(&self) -> Option<Instant> {
        self.outgoing.deadlines.as_ref()?.calls
    }

    /// Cancels the calls that are past their deadline at `now`, and returns the next deadline.
    pub(super) fn expire_calls(&mut self, context: &SessionContext, now: Instant) -> Option<Instant> {
        let next = self.outgoing.deadlines.as_ref()?.calls?;
        if next > now {
            return Some(next);
        }
        let waiting = self.outgoing.calls.iter().filter(|(_, slot)| slot.answer.is_none());
        let deadlines = waiting.filter_map(|(id, slot)| Some((id, slot.deadline?)));
        let (over, left): (Vec<_>, Vec<_>) = deadlines.partition(|&(_, deadline)| deadline <= now);
        for &(id, _) in &over {
            self.cancel(id, |sent| CallEnd::Late { sent });
        }
        if !over.is_empty() {
            self.flush(context);
            self.wake_eligible();
        }
        let next = left.into_iter().map(|(_, deadline)| deadline).min();
        self.outgoing.deadlines.get_or_insert_default().calls = next;
        next
    }
}

impl PendingCall {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Returns the call's end. Items that arrived before it are dropped.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<CallEnd> {
        let answer = self.session.with(|state| answer(state, &self.session, self.id, Some(waker)));
        self.over |= answer.is_some();
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes one step of `follower` for the call's end; see [`Session::step`].
    pub(crate) fn step(&mut self, follower: &mut Follower) -> Step<CallEnd> {
        let step = self.session.step(follower, |state, waker| answer(state, &self.session, self.id, waker));
        self.over |= matches!(step, Step::Done(_));
        step
    }

    /// Returns the next item of a stream, or its end. An unread item is to be passed to [`took`](Self::took) once it is
    /// read.
    pub(crate) fn poll_item(&mut self, waker: &Waker) -> Poll<Result<Received<Item>, CallEnd>> {
        let next = self.session.with(|state| {
            let slot = state.outgoing.calls.get_mut(self.id)?;
            if let Some(item) = slot.items.pop_front() {
                if let Received::Read(item) = &item {
                    state.consume(&self.session, self.id, item.size());
                }
                return Some(Ok(item));
            }
            if slot.answer.is_none() {
                keep_waker(&mut slot.waker, waker);
                return None;
            }
            state.outgoing.calls.remove(self.id)?.answer.map(Err)
        });
        self.over |= matches!(next, Some(Err(_)));
        next.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes in an item that has been read, which was `charged` so much of the credit. An unreadable item ends the
    /// call.
    pub(crate) fn took(&mut self, charged: u64, read: Result<Item, ProtocolError>) -> Result<Item, CallEnd> {
        match &read {
            Ok(item) => self.session.with(|state| {
                state.connection.charge(self.id, item.size().saturating_sub(charged));
                state.consume(&self.session, self.id, item.size());
            }),
            Err(_) => {
                self.cancel();
            }
        }
        read.map_err(CallEnd::Failed)
    }

    /// Reads an unread item.
    pub(crate) fn read(&mut self, item: UnreadItem) -> Result<Item, CallEnd> {
        let charged = item.charged();
        self.took(charged, item.read())
    }

    /// Returns `Ready` when the next item or the end has arrived.
    #[cfg(test)]
    pub(crate) fn poll_arrival(&mut self, waker: &Waker) -> Poll<()> {
        self.session.with(|state| match state.outgoing.calls.get_mut(self.id) {
            Some(slot) if slot.items.is_empty() && slot.answer.is_none() => {
                keep_waker(&mut slot.waker, waker);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }

    /// Cancels the call, and returns whether any byte of it was written. Both happen under one lock, or another thread
    /// could write it in between.
    pub(crate) fn cancel(&mut self) -> Sent {
        self.over = true;
        // A large answer may have arrived: it is freed after the lock is released.
        let (sent, _unused) = self.session.with(|state| {
            let sent = Sent::of(&state.connection, self.id);
            let slot = state.outgoing.calls.remove(self.id);
            if slot.as_ref().is_some_and(|slot| slot.answer.is_none()) && !state.has_ended() {
                state.connection.cancel(self.id);
                state.flush(&self.session);
                state.wake_eligible();
            }
            (sent, slot)
        });
        sent
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if !self.over {
            self.cancel();
        }
    }
}

/// Returns the end of a call; `None` registers `waker`.
pub(super) fn answer(
    state: &mut State,
    context: &SessionContext,
    id: CallId,
    waker: Option<&Waker>,
) -> Option<CallEnd> {
    let slot = state.outgoing.calls.get_mut(id)?;
    if let answer @ Some(_) = slot.answer.take() {
        state.outgoing.calls.discard(id);
        return answer;
    }
    if let Some(waker) = waker {
        keep_waker(&mut slot.waker, waker);
    }
    if !slot.items.is_empty() {
        let items = std::mem::take(&mut slot.items);
        let bytes = items.iter().map(charged).sum();
        state.connection.consumed(id, items.len() as u64, bytes);
        state.flush_soon(context);
    }
    None
}

/// Returns the bytes that an item has taken of its call's credit.
fn charged(item: &Received<Item>) -> u64 {
    match item {
        Received::Read(item) => item.size(),
        Received::Unread(item) => item.charged(),
    }
}

/// Size from which on a packet takes long to write and to read.
const LARGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use procbridge_proto::Event;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::session::reading::Reader;
    use crate::session::testing::{Ends, answer, call};

    /// Sends a packet of the call, in pieces that the session reads one after the other.
    fn send(ends: &mut Ends, kind: u8, id: CallId, content: &[u8]) {
        let pieces = content.chunks(PIECE).collect::<Vec<_>>();
        for (n, piece) in pieces.iter().enumerate() {
            let more = if n + 1 < pieces.len() { 8 } else { 0 };
            let mut packet = vec![b'p', b'b', 1, 1, kind, more, 0];
            packet.extend(u32::try_from(piece.len() + 4).unwrap().to_le_bytes());
            packet.extend(id.number().to_le_bytes());
            packet.extend_from_slice(piece);
            ends.socket.write_all(&packet).unwrap();
            ends.read();
        }
    }

    const PIECE: usize = 64 * 1024;
    const GOOD: u8 = 1;
    const ITEM: u8 = 4;

    fn large(end: &str) -> Vec<u8> {
        format!("{{\"payload\":\"{}\"{end}", "x".repeat(2 << 20)).into_bytes()
    }

    fn next_item(pending: &mut PendingCall) -> Received<Item> {
        match pending.poll_item(Waker::noop()) {
            Poll::Ready(Ok(item)) => item,
            other => panic!("no item but {other:?}"),
        }
    }

    #[test]
    fn a_large_item_that_cannot_be_read_ends_its_call_and_no_other() {
        let mut ends = Ends::client(Reader::None, 8);
        let [mut broken, mut whole] =
            [(); 2].map(|()| ends.session.begin(call("work", &(), ResultForm::Stream)).unwrap());
        ends.session.flush();
        ends.collect();
        while ends.peer.poll_event().is_some() {}
        for (pending, text) in [(&broken, large("]")), (&whole, large("}"))] {
            let id = pending.id;
            send(&mut ends, ITEM, id, &text);
        }
        let Received::Unread(item) = next_item(&mut broken) else { panic!("read on the session's task") };
        let failed = broken.read(item).unwrap_err();
        assert!(matches!(&failed, CallEnd::Failed(error) if error.name() == "invalid_json"), "{failed:?}");
        ends.collect();
        assert_eq!(ends.peer.poll_event(), Some(Event::Cancelled { id: broken.id }));

        let Received::Unread(item) = next_item(&mut whole) else { panic!("read on the session's task") };
        assert_eq!(whole.read(item).unwrap().size(), large("}").len() as u64);
        // The item was so large that this one would end the session if its credit had not been returned.
        send(&mut ends, ITEM, whole.id, b"{}");
        assert!(matches!(next_item(&mut whole), Received::Read(_)));
        ends.peer.reply(whole.id, answer("1")).unwrap();
        ends.deliver();
        assert!(matches!(whole.poll_item(Waker::noop()), Poll::Ready(Err(CallEnd::Response(_)))));
        assert!(!ends.session.has_ended());
    }

    #[test]
    fn a_large_answer_is_left_to_its_caller() {
        let mut ends = Ends::client(Reader::None, 8);
        let begin = || ends.session.begin(call("work", &(), ResultForm::Result)).unwrap();
        let (mut broken, mut whole) = (begin(), begin());
        for (pending, text) in [(&broken, large("]")), (&whole, large("}"))] {
            let id = pending.id;
            send(&mut ends, GOOD, id, &text);
        }
        for (pending, is_whole) in [(&mut broken, false), (&mut whole, true)] {
            let Step::Done(answer) =
                pending.step(&mut Follower::new(Instant::now(), || Waker::noop().clone()))
            else {
                panic!("no answer")
            };
            assert!(matches!(answer, CallEnd::Unread(_)), "{answer:?}");
            let read = crate::client::request::answered(answer, &ends.session);
            assert_eq!(read.is_ok(), is_whole);
        }
    }
}

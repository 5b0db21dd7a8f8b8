//! The peer's calls on a session, from their arrival to their one answer (PB-FLT-*, PB-CAN-*).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Misuse, Packet, Request, Version, code};

use crate::blocking::router;
use crate::events::hub::Subscriber;
use crate::limits::permits::{Permit, Resource};
use crate::reply_error::Refusal;
use crate::service::call::{Call, ReceivedRequest};
use crate::session::outgoing_calls::keep_waker;
use crate::session::session::Session;
#[cfg(feature = "tokio")]
use crate::session::state::ReceiveGate;
use crate::session::state::State;
use crate::telemetry::log::LogClass;

/// A call that is to be served.
#[derive(Debug)]
pub(crate) struct IncomingCall {
    pub(crate) call: Call,
    /// Its place among the calls that are served; given back when the handler has ended.
    #[allow(dead_code, reason = "a share counts as long as it is held")]
    pub(crate) slot: Option<Permit>,
}

/// An answer or an item that is ready to be queued, with the space that it takes until its peer has taken it.
#[derive(Debug)]
pub(crate) struct PreparedReply {
    packet: Packet,
    space: Option<Permit>,
}

impl From<Packet> for PreparedReply {
    fn from(packet: Packet) -> Self {
        Self { packet, space: None }
    }
}

impl PreparedReply {
    pub(crate) fn is_large(&self) -> bool {
        self.space.is_some()
    }

    /// Changes the packet.
    pub(crate) fn map(self, change: impl FnOnce(Packet) -> Packet) -> Self {
        Self { packet: change(self.packet), ..self }
    }
}

/// A call that has not been answered.
#[derive(Debug)]
pub(crate) struct ServedCall {
    pub(super) call: Call,
    /// Told when nobody waits for the answer any longer.
    pub(super) cancelled: Option<Waker>,
    /// Told when an item may be sent, or never will.
    producer: Option<Waker>,
    /// Told when there is room for a large answer. A handler may leave its items to a task that still waits.
    room: Option<Waker>,
    subscriber: Option<Arc<Subscriber>>,
    /// Since when a stream waits for credit.
    starved: Option<Instant>,
}

impl ServedCall {
    fn of(call: Call) -> Self {
        Self { call, cancelled: None, producer: None, room: None, subscriber: None, starved: None }
    }

    /// When it is answered without its handler, and with what.
    fn due(&self) -> Option<Instant> {
        let starved = self.starved.and_then(|since| since.checked_add(CREDIT_TIMEOUT));
        [self.call.deadline(), starved].into_iter().flatten().min()
    }

    /// Everybody who waits for something of this call.
    fn waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        [self.cancelled.take(), self.producer.take(), self.room.take()].into_iter().flatten()
    }
}

/// Where the answer to a call goes.
#[derive(Clone, Debug)]
pub(crate) struct SessionCall {
    pub(crate) session: Arc<Session>,
    pub(crate) id: CallId,
}

impl State {
    /// The next of the peer's calls that nobody has begun to serve; none in place of it if the session is over. Until there
    /// is one `waker` is told of it.
    pub(crate) fn next_call(
        &mut self,
        session: &Arc<Session>,
        waker: Option<&Waker>,
    ) -> Option<Option<IncomingCall>> {
        while self.ready.is_empty() && self.has_undispatched {
            self.dispatch(session);
        }
        if let Some(work) = self.ready.pop_front() {
            return Some(Some(work));
        }
        if self.has_ended() {
            return Some(None);
        }
        if let Some(waker) = waker {
            keep_waker(&mut self.standby, waker);
        }
        None
    }

    /// Lets a call in, or answers it at once.
    pub(super) fn admit(
        &mut self,
        session: &Arc<Session>,
        id: CallId,
        request: ReceivedRequest<Request>,
    ) -> Option<IncomingCall> {
        let admission = &session.admission;
        let session_call = SessionCall { session: session.clone(), id };
        // Its time runs from when it arrived.
        let now = self.keepalive.heard();
        let shares = admission.call(&session.account, request.method()).and_then(|slot| {
            let held = admission.request(&session.account, request.size())?;
            if let ReceivedRequest::Unread(request) = &request {
                admission.inflate(&mut self.inflation, request, now)?;
            }
            Ok((slot, held))
        });
        let refusal = match shares {
            Err(refusal) => {
                if request.is_one_way() {
                    session.drop_one_way(1);
                }
                refusal
            }
            Ok((slot, held)) => {
                let call = Call::of_session(request, session.peer, admission, session_call, held, now);
                if call.deadline().is_none_or(|deadline| deadline > now) {
                    self.serving.insert(id, ServedCall::of(call.clone()));
                    return Some(IncomingCall { call, slot });
                }
                router::timed_out()
            }
        };
        self.answer(id, refusal.packet(Version::V1_1, &admission.config.limits).into());
        None
    }

    /// Queues the answer to a call. One that the peer does not take is answered with that.
    fn answer(&mut self, id: CallId, PreparedReply { packet, space }: PreparedReply) {
        let misuse = match self.connection.reply(id, packet) {
            Ok(()) => {
                match (&mut self.permits.answers, space) {
                    (Some(answers), Some(space)) => answers.merge(space),
                    (answers, space) => *answers = answers.take().or(space),
                }
                return;
            }
            // It has been answered.
            Err(Misuse::UnknownCall) => return,
            Err(misuse) => misuse,
        };
        let (code, message) = match misuse {
            Misuse::TooLarge { length, limit } => (
                code::TOO_LARGE,
                format!("the result of {length} B exceeds the caller's limit of {limit} B (max_body)"),
            ),
            misuse => (code::INTERNAL, format!("the result cannot be sent: {misuse}")),
        };
        self.connection.decline(id, code, &message);
    }

    /// Queues the answer to a call, and tells whether anybody waited for it.
    pub(super) fn reply(&mut self, session: &Session, id: CallId, answer: PreparedReply) -> bool {
        let serving = self.serving.remove(id);
        self.has_served();
        let Some(mut serving) = serving else { return false };
        // Whoever answers may not be the one who produces: a handler that waits to send an item has to hear of it.
        self.to_wake.extend(serving.waiting());
        self.answer(id, answer);
        if self.is_enough() {
            self.flush(session);
        }
        true
    }

    /// The caller does not want the answer any longer.
    pub(super) fn cancelled(&mut self, id: CallId) {
        let Some(serving) = self.serving.get_mut(id) else { return };
        serving.call.cancel();
        self.to_wake.extend(serving.waiting());
        if let Some(subscriber) = serving.subscriber.take() {
            subscriber.end();
            self.serving.remove(id);
            self.connection.decline(id, code::CANCELLED, router::cancelled_by_caller().message());
        }
    }

    /// An item of this call may be sent.
    pub(super) fn wake_sender(&mut self, id: CallId) {
        let Some(serving) = self.serving.get_mut(id) else { return };
        self.to_wake.extend([serving.producer.take(), serving.room.take()].into_iter().flatten());
        if let Some(subscriber) = serving.subscriber.clone() {
            subscriber.pump(self, id);
        }
    }

    /// Items of all calls may be sent.
    pub(super) fn wake_all_senders(&mut self) {
        let ids: Vec<_> = self.serving.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.wake_sender(id));
    }

    /// Answers a call without its handler, and has it written.
    fn abandon(
        &mut self,
        session: &Session,
        id: CallId,
        refusal: &Refusal,
        leaked: &AtomicUsize,
    ) -> Option<Call> {
        let mut serving = self.serving.remove(id)?;
        self.to_wake.extend(serving.waiting());
        let ServedCall { call, subscriber, .. } = serving;
        let waiting = self.ready.len();
        self.ready.retain(|work| work.call.session_call().is_none_or(|session_call| session_call.id != id));
        match subscriber {
            Some(subscriber) => subscriber.end(),
            // Before the state is let go: a handler that ends finds that it was counted.
            None if self.ready.len() == waiting => call.abandon(leaked),
            // It has no handler yet, and needs none any more.
            None => {}
        }
        self.has_served();
        self.answer(id, refusal.packet(call.version(), &session.admission.config.limits).into());
        self.flush(session);
        Some(call)
    }

    /// Answers the calls whose time is over, see [`Link::expire`].
    pub(super) fn expire(
        &mut self,
        session: &Session,
        now: Instant,
        leaked: &AtomicUsize,
    ) -> (Vec<Call>, Option<Instant>) {
        let is_over = |serving: &ServedCall| serving.due().is_some_and(|due| due <= now);
        let over: Vec<_> =
            self.serving.iter().filter(|(_, serving)| is_over(serving)).map(|(id, _)| id).collect();
        let calls = over
            .into_iter()
            .filter_map(|id| self.abandon(session, id, &router::timed_out(), leaked))
            .collect();
        (calls, self.serving.iter().filter_map(|(_, serving)| serving.due()).min())
    }

    /// Tells who waits for the last call of a session that has ended, or for any call to end.
    fn has_served(&mut self) {
        #[cfg(feature = "tokio")]
        if std::mem::replace(&mut self.receive_gate, ReceiveGate::Open) != ReceiveGate::Open {
            self.wake_standby();
        }
        if self.serving.is_empty() && self.has_ended() {
            self.wake_standby();
        }
    }

    /// The session has ended: nobody waits for any answer. One-way calls go on.
    pub(super) fn cancel_served(&mut self) {
        // Whoever sends a one-way call has never waited for it.
        let waited_for: Vec<_> =
            self.serving.iter().filter(|(_, serving)| !serving.call.is_one_way()).map(|(id, _)| id).collect();
        for mut serving in waited_for.into_iter().filter_map(|id| self.serving.remove(id)).collect::<Vec<_>>()
        {
            serving.call.cancel();
            self.to_wake.extend(serving.waiting());
            if let Some(subscriber) = serving.subscriber {
                subscriber.end();
            }
        }
    }
}

impl Session {
    /// Queues the answer to a call; it is written with the next flush. Tells whether anybody waited for it.
    pub(crate) fn reply(&self, id: CallId, answer: impl Into<PreparedReply>) -> bool {
        self.with(|state| state.reply(self, id, answer.into()))
    }

    /// Takes the space that a large answer or item needs until its peer has taken it.
    ///
    /// # Errors
    ///
    /// So much waits for this peer, or for all, that there is none: that is the answer.
    pub(crate) fn prepare(&self, packet: Packet) -> Result<PreparedReply, Refusal> {
        let space = self.acquire_reply_bytes(packet.json_len())?;
        Ok(PreparedReply { packet, space })
    }

    /// Takes space for text of so many bytes that becomes an answer; none for a small one.
    pub(crate) fn acquire_reply_bytes(&self, bytes: usize) -> Result<Option<Permit>, Refusal> {
        if bytes <= LARGE {
            return Ok(None);
        }
        self.check_share(bytes)?;
        self.admission.answer(&self.account, bytes)
    }

    /// Holds space for the text of an answer as it grows.
    pub(crate) fn grow_reply_bytes(&self, space: &mut Option<Permit>, bytes: usize) -> Result<(), Refusal> {
        let held = space.as_ref().map_or(0, Permit::units);
        if bytes <= held.max(LARGE) {
            return Ok(());
        }
        // Nothing of it can be written before it is whole, so others of the session would not help by being written first.
        let (share, all) = (self.admission.session_share(), self.account.used(Resource::Answers));
        if all.saturating_add(LARGE) > share {
            return Err(router::overloaded("bytes of answers of this peer", share, "max_unread"));
        }
        // In steps, so that many small items do not all count.
        let wanted = bytes.saturating_add(LARGE);
        match space {
            Some(space) => {
                if space.resize(wanted) {
                    Ok(())
                } else {
                    Err(self.admission.full_of_answers(LARGE))
                }
            }
            None => self.admission.answer(&self.account, wanted).map(|taken| *space = taken),
        }
    }

    /// Judges whether `bytes` more may wait for this peer: not beyond its share while it takes nothing.
    fn check_share(&self, bytes: usize) -> Result<(), Refusal> {
        let (share, admission) = (self.admission.session_share(), &self.admission);
        if self.account.used(Resource::Answers).saturating_add(bytes) <= share {
            return Ok(());
        }
        let now = admission.now();
        let is_stalled = self.with(|state| {
            state.over_share.get_or_insert((now, state.bytes_taken));
            state.blocked.is_some_and(|since| now.saturating_duration_since(since) >= STALLED)
        });
        if is_stalled {
            return Err(router::overloaded("bytes of answers not read by this peer", share, "max_unread"));
        }
        Ok(())
    }

    /// Counts one-way calls that were not run for lack of a place, and logs it: their callers do not hear of it.
    pub(super) fn drop_one_way(&self, calls: u64) {
        self.admission.stats.dropped(calls);
        let peer = &self.peer;
        self.admission.log.write(LogClass::Refused, || {
            format!("{peer}: {calls} one-way calls dropped, as many are in flight as the limits allow")
        });
    }

    /// Ready when there is room for a large answer, or nobody waits for it. A one-way call may go on after the session,
    /// where nothing makes room any more.
    pub(crate) fn poll_send_space(&self, id: CallId, waker: &Waker) -> Poll<()> {
        self.with(|state| {
            if state.is_backpressured() {
                // Perhaps nobody has written it yet.
                state.flush(self);
            }
            let crowded = state.is_backpressured();
            match state.serving.get_mut(id) {
                Some(serving) if crowded && !serving.call.is_one_way() => {
                    keep_waker(&mut serving.room, waker);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
    }

    /// Answers the calls whose time is over without their handlers, which are `leaked` from now on. Tells which they
    /// are, and when the next one's time will be over.
    pub(crate) fn expire(&self, now: Instant, leaked: &AtomicUsize) -> (Vec<Call>, Option<Instant>) {
        self.with(|state| state.expire(self, now, leaked))
    }

    /// Answers all calls that are being served with `refusal`; their handlers are `leaked` from now on.
    pub(crate) fn refuse_all(&self, refusal: &Refusal, leaked: &AtomicUsize) {
        self.with(|state| {
            let ids: Vec<_> = state.serving.iter().map(|(id, _)| id).collect();
            for id in ids {
                state.abandon(self, id, refusal, leaked);
            }
        });
    }

    /// Ends the subscriptions with `refusal`. They have no handler that could be waited for. Those that were called for and
    /// have not begun will not.
    pub(crate) fn end_subscriptions(&self, refusal: &Refusal) {
        self.with(|state| {
            state.is_unsubscribed = true;
            let serving = state.serving.iter();
            let ids: Vec<_> =
                serving.filter(|(_, serving)| serving.subscriber.is_some()).map(|(id, _)| id).collect();
            for id in ids {
                state.abandon(self, id, refusal, &AtomicUsize::new(0));
            }
        });
    }

    /// Sends an item of a streamed answer, once there is credit and room for it.
    ///
    /// # Errors
    ///
    /// Nobody waits for it any longer, or it cannot be sent.
    pub(crate) fn poll_item(
        &self,
        id: CallId,
        item: &mut Option<PreparedReply>,
        waker: &Waker,
    ) -> Poll<Result<(), Refusal>> {
        self.with(|state| {
            let crowded = state.is_backpressured();
            let Some(serving) = state.serving.get_mut(id) else {
                return Poll::Ready(Err(router::cancelled_by_caller()));
            };
            if serving.call.is_cancelled() {
                return Poll::Ready(Err(router::cancelled_by_caller()));
            }
            let has_credit = state.connection.may_send_item(id);
            if crowded || !has_credit {
                if !has_credit {
                    serving.starved.get_or_insert_with(|| self.admission.now());
                }
                keep_waker(&mut serving.producer, waker);
                return Poll::Pending;
            }
            serving.starved = None;
            let Some(PreparedReply { packet, space: _space }) = item.take() else {
                return Poll::Ready(Ok(()));
            };
            let sent = state.connection.item(id, packet).map_err(router::unsendable);
            state.flush_soon(self);
            Poll::Ready(sent)
        })
    }

    /// Gives the answer to `id` to a subscriber, which fills it with events.
    pub(crate) fn subscribe(&self, id: CallId, subscriber: &Arc<Subscriber>) {
        self.with(|state| match state.serving.get_mut(id) {
            Some(serving) => {
                serving.subscriber = Some(subscriber.clone());
                // The CANCEL may have come with the request, when there was nobody yet to end.
                if serving.call.is_cancelled() {
                    state.cancelled(id);
                } else if state.is_unsubscribed {
                    // Nobody would end it, and the session would last as long as a server that stops has time.
                    state.abandon(self, id, &router::stopping(), &AtomicUsize::new(0));
                } else {
                    subscriber.pump(state, id);
                }
                state.flush(self);
            }
            None => subscriber.end(),
        });
    }

    /// Sends what a subscriber has.
    pub(crate) fn pump(&self, id: CallId, subscriber: &Arc<Subscriber>) {
        self.with(|state| {
            let is_in_force = state.serving.get(id).is_some_and(|serving| serving.subscriber.is_some());
            if is_in_force && subscriber.pump(state, id) {
                state.flush(self);
            }
        });
    }
}

/// An answer or item of more bytes than this takes space, and waits while many bytes are queued.
pub(crate) const LARGE: usize = 64 * 1024;
/// A stream whose caller gives no credit for so long is ended: it holds a place, and in the blocking face a thread.
pub(crate) const CREDIT_TIMEOUT: Duration = Duration::from_secs(600);
/// A peer that has taken nothing for so long gets no more large answers than its share.
const STALLED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::config::server::ServerConfig;
    use crate::events::hub::Hub;
    use crate::net::socket;
    use crate::session::state::{End, Reader};
    use crate::session::testing::{self, Bell, Ends, answer, call};

    /// The next call that the link is to serve.
    fn next(session: &Session) -> (IncomingCall, CallId) {
        let work = session.next_work().unwrap();
        let id = work.call.session_call().unwrap().id;
        (work, id)
    }

    #[test]
    fn an_answer_that_nobody_gets_waits_for_no_room() {
        let mut ends = Ends::server(Reader::None);
        for form in [ResultForm::Result, ResultForm::OneWay] {
            ends.peer.call(call("work", &(), form)).unwrap();
        }
        ends.deliver();
        let session = &ends.session;
        let (_large, large) = next(session);
        let (_note, note) = next(session);
        session.reply(large, answer(&format!("\"{}\"", "x".repeat(8 << 20))));
        session.flush();
        assert!(session.is_blocked());
        assert!(session.poll_send_space(note, Waker::noop()).is_ready());
        // The call goes on after the session; nothing would ever make room.
        session.close(End::Closed);
        assert!(session.poll_send_space(note, Waker::noop()).is_ready());
    }

    /// Small calls would wait until nearly all of it is written.
    #[test]
    fn a_large_answer_that_is_written_does_not_keep_calls_from_being_read() {
        let mut ends = Ends::server_of(Reader::None, 32);
        for _ in 0..18 {
            ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
        }
        ends.deliver();
        let session = ends.session.clone();
        let reply = |size: usize| {
            let (work, id) = next(&session);
            let packet = answer(&format!("\"{}\"", "x".repeat(size)));
            session.reply(id, work.call.prepare(packet, &session));
            session.flush();
        };
        reply(8 << 20);
        while !session.is_blocked() {
            session.flush();
        }
        // What takes no space is bounded by that.
        for _ in 0..17 {
            assert!(!session.is_reading_paused());
            reply(LARGE - 100);
        }
        assert!(session.is_reading_paused());
    }

    /// A handler that ran all the same would work for nobody, and one that never ran would be counted for ever.
    #[test]
    fn what_is_answered_before_it_has_begun_is_not_run_and_not_leaked() {
        let mut ends = Ends::server(Reader::None);
        for _ in 0..3 {
            ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
        }
        ends.deliver();
        let (begun, _) = next(&ends.session);
        let leaked = AtomicUsize::new(0);
        let (over, next) = ends.session.expire(Instant::now() + Duration::from_secs(3600), &leaked);
        assert_eq!((over.len(), next), (3, None));
        assert_eq!((leaked.load(Ordering::Relaxed), ends.session.has_work()), (1, false));
        begun.call.end_handler(&leaked);
        assert_eq!(leaked.load(Ordering::Relaxed), 0);
    }

    /// Fault H3: a stream has no time limit, but it does not wait for credit for ever.
    #[test]
    fn a_stream_without_credit_ends_after_ten_minutes() {
        let mut ends = Ends::server(Reader::None);
        ends.session.admission.set_streams(&["work"]);
        ends.peer.call(call("work", &(), ResultForm::Stream)).unwrap();
        ends.deliver();
        let (_work, id) = next(&ends.session);
        let mut sent = 0;
        let mut item = Some(PreparedReply::from(testing::item("1")));
        while ends.session.poll_item(id, &mut item, Waker::noop()).is_ready() {
            item = Some(PreparedReply::from(testing::item("1")));
            sent += 1;
        }
        assert_eq!(sent, 64);
        let (now, leaked) = (Instant::now(), AtomicUsize::new(0));
        let (over, due) = ends.session.expire(now + Duration::from_secs(599), &leaked);
        assert!(over.is_empty() && due.is_some_and(|due| due <= now + CREDIT_TIMEOUT));
        let (over, due) = ends.session.expire(now + CREDIT_TIMEOUT, &leaked);
        assert_eq!((over.len(), due), (1, None));
    }

    /// What is taken back makes room without being written.
    #[test]
    fn there_is_room_when_a_large_call_is_given_up() {
        let mut ends = Ends::server(Reader::None);
        ends.peer.call(call("work", &(), ResultForm::Result)).unwrap();
        ends.deliver();
        let session = &ends.session;
        let (_work, id) = next(session);
        while socket::sent(socket::send(session, &[0; 4096])).unwrap() > 0 {}
        let pending = session.begin(call("large", &"x".repeat(2 << 20), ResultForm::Result)).unwrap();
        let (bell, waker) = Bell::new();
        assert!(session.poll_send_space(id, &waker).is_pending());
        drop(pending);
        assert_eq!(bell.rung(), 1);
    }

    /// A handler may leave its items to a task that still waits while the handler's own large answer does.
    #[test]
    fn an_item_and_an_answer_of_one_call_wait_each_for_itself() {
        let mut ends = Ends::server(Reader::None);
        for form in [ResultForm::Result, ResultForm::Stream] {
            ends.peer.call(call("work", &(), form)).unwrap();
        }
        ends.deliver();
        let session = ends.session.clone();
        let ((_large, large), (_stream, stream)) = (next(&session), next(&session));
        session.reply(large, answer(&format!("\"{}\"", "x".repeat(4 << 20))));
        session.flush();
        let ((producer, sends), (answering, answers)) = (Bell::new(), Bell::new());
        let mut item = Some(PreparedReply::from(call("item", &(), ResultForm::Result)));
        for _ in 0..2 {
            assert!(session.poll_item(stream, &mut item, &sends).is_pending());
            assert!(session.poll_send_space(stream, &answers).is_pending());
        }
        let mut bytes = vec![0; 64 << 10];
        while session.is_blocked() {
            assert!(std::io::Read::read(&mut &ends.socket, &mut bytes).unwrap() > 0);
            session.flush();
        }
        assert_eq!((producer.rung(), answering.rung()), (1, 1));
    }

    /// It was called for before, and answered only now.
    #[test]
    fn no_subscription_begins_when_they_have_been_ended() {
        let mut ends = Ends::server(Reader::None);
        ends.peer.call(call("$/subscribe", &json!({ "topics": ["a"] }), ResultForm::Stream)).unwrap();
        ends.deliver();
        let session = &ends.session;
        let (work, _) = next(session);
        session.end_subscriptions(&router::stopping());
        session.goodbye("the server is stopping");
        let hub = Hub::new();
        assert!(hub.answer(&work.call, &ServerConfig::new()).is_none());
        assert_eq!((hub.subscriptions(), session.has_ended()), (0, true));
    }

    /// A peer that reads no more may go on to send, so the end may be far. Nobody waits for it who can go elsewhere.
    #[test]
    fn those_who_wait_to_call_hear_that_nothing_can_be_written() {
        let Ends { session, socket, .. } = Ends::client(Reader::Task, 1);
        let _calling = session.begin(call("work", &(), ResultForm::Result)).unwrap();
        let hold = Duration::from_secs(5);
        let mut held = session.enqueue(call("work", &(), ResultForm::Result), hold);
        let ((caller, waits), (task, rests)) = (Bell::new(), Bell::new());
        assert!(held.poll(&waits).is_pending());
        socket.shutdown(std::net::Shutdown::Read).unwrap();
        session.notify(call("note", &(), ResultForm::OneWay)).unwrap();
        session.set_standby(&rests);
        session.flush();
        assert!(!session.is_open() && !session.has_ended());
        assert_eq!((caller.rung(), task.rung()), (1, 1));
    }

    /// What tells the peer why is written before the session ends, which must not end it in another way.
    #[test]
    fn a_session_that_its_peer_broke_has_ended_for_that_reason() {
        let ends = Ends::server(Reader::None);
        std::io::Write::write_all(&mut &ends.socket, b"something else").unwrap();
        ends.read();
        assert!(ends.session.must_linger(), "{:?}", ends.session.end_reason());
    }
}

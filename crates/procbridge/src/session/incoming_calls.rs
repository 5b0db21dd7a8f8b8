//! Incoming calls on a session, from their arrival to their one answer (PB-FLT-*, PB-CAN-*).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Poll, Waker};
use std::time::Instant;

use procbridge_proto::{CallId, Misuse, Packet, Request, Version, code};

use crate::reply_error::{self, ReplyError};
use crate::session::call_state::CallState;
use crate::session::context::SessionContext;
#[cfg(feature = "tokio")]
use crate::session::reading::ReceiveGate;
use crate::session::received::Received;
use crate::session::served_call::{IncomingCall, ItemOutlet, ItemSource, PreparedReply, ServedCall};
use crate::session::session::Session;
use crate::session::state::State;
use crate::session::waker::keep_waker;

impl State {
    /// Takes the next incoming call that no handler has begun to serve. Returns `Some(None)` if the session ended.
    /// `None` registers `waker` as the standby.
    pub(crate) fn next_call(
        &mut self,
        context: &SessionContext,
        waker: Option<&Waker>,
    ) -> Option<Option<IncomingCall>> {
        while self.incoming.ready.is_empty() && self.reading.has_undispatched {
            self.dispatch(context);
        }
        if let Some(incoming) = self.incoming.ready.pop_front() {
            return Some(Some(incoming));
        }
        if self.has_ended() {
            return Some(None);
        }
        if let Some(waker) = waker {
            keep_waker(&mut self.incoming.standby, waker);
        }
        None
    }

    /// Admits a call, or answers it with a refusal at once.
    pub(super) fn admit(
        &mut self,
        context: &SessionContext,
        id: CallId,
        request: Received<Request>,
    ) -> Option<IncomingCall> {
        let admission = &context.admission;
        // The call's deadline counts from its arrival.
        let now = self.keepalive.heard();
        let permits = admission.call(&context.account, request.method()).and_then(|slot| {
            let bytes = admission.request(&context.account, request.size())?;
            if let Received::Unread(request) = &request {
                admission.inflate(&mut self.incoming.inflation, request, now)?;
            }
            Ok((slot, bytes))
        });
        let refusal = match permits {
            Err(refusal) => {
                if request.is_one_way() {
                    context.drop_one_way(1);
                }
                refusal
            }
            Ok((slot, bytes)) => {
                let call = CallState::of_session(request, context.peer, admission, bytes, now);
                let call = Arc::new(call);
                if call.deadline().is_none_or(|deadline| deadline > now) {
                    self.incoming.served.insert(id, ServedCall::of(call.clone()));
                    return Some(IncomingCall { id, call, slot });
                }
                reply_error::timed_out()
            }
        };
        self.answer(id, refusal.packet(Version::V1_1, &admission.config.limits).into());
        None
    }

    /// Queues the answer to a call. If the peer does not take the answer, declines the call with the reason.
    fn answer(&mut self, id: CallId, PreparedReply { packet, space }: PreparedReply) {
        let misuse = match self.connection.reply(id, packet) {
            Ok(()) => {
                match (&mut self.incoming.permits.answers, space) {
                    (Some(answers), Some(space)) => answers.merge(space),
                    (answers, space) => *answers = answers.take().or(space),
                }
                return;
            }
            // The call was answered before.
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

    /// Queues the answer to a call, and returns whether the caller waited for it.
    pub(super) fn reply(&mut self, context: &SessionContext, id: CallId, answer: PreparedReply) -> bool {
        let served = self.incoming.served.remove(id);
        self.has_served();
        let Some(mut served) = served else { return false };
        // The answer may come from another thread than the items: a handler that waits to send one is woken.
        self.unlocked.to_wake.extend(served.waiting());
        self.answer(id, answer);
        if self.is_enough() {
            self.flush(context);
        }
        true
    }

    /// Marks a call as cancelled by its caller.
    pub(super) fn cancelled(&mut self, id: CallId) {
        let Some(served) = self.incoming.served.get_mut(id) else { return };
        served.call.cancel();
        self.unlocked.to_wake.extend(served.waiting());
        if let Some(subscriber) = served.subscriber.take() {
            subscriber.end();
            self.incoming.served.remove(id);
            self.connection.decline(id, code::CANCELLED, reply_error::cancelled_by_caller().message());
        }
    }

    /// Wakes the producer of a call that may send an item.
    pub(super) fn wake_sender(&mut self, id: CallId) {
        let Some(served) = self.incoming.served.get_mut(id) else { return };
        self.unlocked
            .to_wake
            .extend([served.producer.take(), served.send_space.take()].into_iter().flatten());
        if let Some(subscriber) = served.subscriber.clone() {
            subscriber.pump(self, id);
        }
    }

    /// Wakes the producers of all calls.
    pub(super) fn wake_all_senders(&mut self) {
        let ids: Vec<_> = self.incoming.served.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.wake_sender(id));
    }

    /// Answers a call without its handler, and flushes the answer.
    fn abandon(
        &mut self,
        context: &SessionContext,
        id: CallId,
        refusal: &ReplyError,
        leaked: &AtomicUsize,
    ) -> Option<Arc<CallState>> {
        let mut served = self.incoming.served.remove(id)?;
        self.unlocked.to_wake.extend(served.waiting());
        let ServedCall { call, subscriber, .. } = served;
        let waiting = self.incoming.ready.len();
        self.incoming.ready.retain(|incoming| incoming.id != id);
        match subscriber {
            Some(subscriber) => subscriber.end(),
            // Count before the lock is released, or a handler that ends in between is never subtracted.
            None if self.incoming.ready.len() == waiting => call.abandon(leaked),
            // Its handler has not begun, and will not.
            None => {}
        }
        self.has_served();
        self.answer(id, refusal.packet(call.version, &context.admission.config.limits).into());
        self.flush(context);
        Some(call)
    }

    /// Answers the calls past their deadline, see [`Session::expire`].
    pub(super) fn expire(
        &mut self,
        context: &SessionContext,
        now: Instant,
        leaked: &AtomicUsize,
    ) -> (Vec<Arc<CallState>>, Option<Instant>) {
        let is_over = |served: &ServedCall| served.due().is_some_and(|due| due <= now);
        let over: Vec<_> =
            self.incoming.served.iter().filter(|(_, served)| is_over(served)).map(|(id, _)| id).collect();
        let calls = over
            .into_iter()
            .filter_map(|id| self.abandon(context, id, &reply_error::timed_out(), leaked))
            .collect();
        (calls, self.incoming.served.iter().filter_map(|(_, served)| served.due()).min())
    }

    /// Wakes the standby if it waits for any call to end, or for the last call of an ended session.
    fn has_served(&mut self) {
        #[cfg(feature = "tokio")]
        if std::mem::replace(&mut self.reading.receive_gate, ReceiveGate::Open) != ReceiveGate::Open {
            self.wake_standby();
        }
        if self.incoming.served.is_empty() && self.has_ended() {
            self.wake_standby();
        }
    }

    /// Cancels the calls of a session that has ended. One-way calls go on.
    pub(super) fn cancel_served(&mut self) {
        // The caller of a one-way call has never waited for it.
        let waited_for: Vec<_> = self
            .incoming
            .served
            .iter()
            .filter(|(_, served)| !served.call.is_one_way)
            .map(|(id, _)| id)
            .collect();
        for mut served in
            waited_for.into_iter().filter_map(|id| self.incoming.served.remove(id)).collect::<Vec<_>>()
        {
            served.call.cancel();
            self.unlocked.to_wake.extend(served.waiting());
            if let Some(subscriber) = served.subscriber {
                subscriber.end();
            }
        }
    }
}

impl ItemOutlet for State {
    fn may_send(&mut self, id: CallId) -> bool {
        !self.is_backpressured() && self.connection.may_send_item(id)
    }

    fn send_item(&mut self, id: CallId, item: Packet) -> Result<(), Misuse> {
        self.connection.item(id, item)
    }
}

impl Session {
    /// Queues the answer to a call; the next flush writes it. Returns whether the caller waited for it.
    pub(crate) fn reply(&self, id: CallId, answer: impl Into<PreparedReply>) -> bool {
        self.with(|state| state.reply(self, id, answer.into()))
    }

    /// Answers the calls past their deadline without their handlers, which count as `leaked` from now on. Returns these
    /// calls, and the next deadline.
    pub(crate) fn expire(
        &self,
        now: Instant,
        leaked: &AtomicUsize,
    ) -> (Vec<Arc<CallState>>, Option<Instant>) {
        self.with(|state| state.expire(self, now, leaked))
    }

    /// Answers all incoming calls with `refusal`; their handlers count as `leaked` from now on.
    pub(crate) fn refuse_all(&self, refusal: &ReplyError, leaked: &AtomicUsize) {
        self.with(|state| {
            let ids: Vec<_> = state.incoming.served.iter().map(|(id, _)| id).collect();
            for id in ids {
                state.abandon(self, id, refusal, leaked);
            }
        });
    }

    /// Ends the subscriptions with `refusal`: they have no handler to wait for. Subscriptions that were requested and
    /// have not begun are refused too.
    pub(crate) fn end_subscriptions(&self, refusal: &ReplyError) {
        self.with(|state| {
            state.incoming.is_unsubscribed = true;
            let served = state.incoming.served.iter();
            let ids: Vec<_> =
                served.filter(|(_, served)| served.subscriber.is_some()).map(|(id, _)| id).collect();
            for id in ids {
                state.abandon(self, id, refusal, &AtomicUsize::new(0));
            }
        });
    }

    /// Sends an item of a streamed answer, once there is credit and send-queue space for it.
    ///
    /// # Errors
    ///
    /// Fails if the caller does not wait for items any longer, or the item cannot be sent.
    pub(crate) fn poll_item(
        &self,
        id: CallId,
        item: &mut Option<PreparedReply>,
        waker: &Waker,
    ) -> Poll<Result<(), ReplyError>> {
        self.with(|state| {
            let is_backpressured = state.is_backpressured();
            let Some(served) = state.incoming.served.get_mut(id) else {
                return Poll::Ready(Err(reply_error::cancelled_by_caller()));
            };
            if served.call.is_cancelled() {
                return Poll::Ready(Err(reply_error::cancelled_by_caller()));
            }
            let has_credit = state.connection.may_send_item(id);
            if is_backpressured || !has_credit {
                if !has_credit {
                    served.starved.get_or_insert_with(|| self.admission.now());
                }
                keep_waker(&mut served.producer, waker);
                return Poll::Pending;
            }
            served.starved = None;
            let Some(PreparedReply { packet, space: _space }) = item.take() else {
                return Poll::Ready(Ok(()));
            };
            let sent = state.connection.item(id, packet).map_err(reply_error::unsendable);
            state.flush_soon(self);
            Poll::Ready(sent)
        })
    }

    /// Hands the answer to `id` to a subscriber, which fills it with events.
    pub(crate) fn subscribe(&self, id: CallId, subscriber: &Arc<dyn ItemSource>) {
        self.with(|state| match state.incoming.served.get_mut(id) {
            Some(served) => {
                served.subscriber = Some(subscriber.clone());
                // The CANCEL may have come with the request, before there was a subscriber to end.
                if served.call.is_cancelled() {
                    state.cancelled(id);
                } else if state.incoming.is_unsubscribed {
                    // Nothing else would end the subscription: the session would last as long as the grace time.
                    state.abandon(self, id, &reply_error::stopping(), &AtomicUsize::new(0));
                } else {
                    subscriber.pump(state, id);
                }
                state.flush(self);
            }
            None => subscriber.end(),
        });
    }

    /// Sends the items that a subscriber has queued.
    pub(crate) fn pump(&self, id: CallId, subscriber: &dyn ItemSource) {
        self.with(|state| {
            let is_in_force = state.incoming.served.get(id).is_some_and(|served| served.subscriber.is_some());
            if is_in_force && subscriber.pump(state, id) {
                state.flush(self);
            }
        });
    }
}

#[cfg(test)]
mod tests;

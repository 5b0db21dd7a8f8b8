//! The incoming calls of a session: the entry of each until its answer, and the answer itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, CallTable, Connection, Misuse, Packet};

use crate::limits::inflation::Allowance;
use crate::limits::permits::Permit;
use crate::session::call_state::CallState;

/// The incoming calls of a session.
#[derive(Default)]
pub(crate) struct Incoming {
    /// Calls that have no answer yet.
    pub(crate) served: CallTable<ServedCall>,
    /// Calls that no handler has begun to serve.
    pub(super) ready: VecDeque<IncomingCall>,
    /// The standby: the waker of the thread or task that serves incoming calls. It is woken first if the session has no
    /// leader.
    pub(super) standby: Option<Waker>,
    /// Whether new subscriptions are refused.
    pub(super) is_unsubscribed: bool,
    /// The permits of a server's limits that the session holds.
    pub(super) permits: SessionPermits,
    /// One-way calls that were dropped, counted and logged.
    pub(super) dropped_one_way: u64,
    /// How much the peer may still make this side inflate.
    pub(super) inflation: Allowance,
}

/// The permits of a server's limits that a session holds.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "a permit counts until it is dropped")]
pub(crate) struct SessionPermits {
    pub(crate) permit: Option<Permit>,
    pub(crate) session: Option<Permit>,
    /// Bytes of requests that have not fully arrived.
    pub(crate) bytes: Option<Permit>,
    /// Bytes of large answers that are queued.
    pub(crate) answers: Option<Permit>,
}

/// An incoming call that is to be served.
#[derive(Debug)]
pub(crate) struct IncomingCall {
    pub(crate) id: CallId,
    pub(crate) call: Arc<CallState>,
    /// Its permit of the concurrency limit; returned when the handler has ended.
    #[allow(dead_code, reason = "a permit counts until it is dropped")]
    pub(crate) slot: Option<Permit>,
}

/// An answer or item that is ready to be queued, with the space that it takes until the peer has read it.
#[derive(Debug)]
pub(crate) struct PreparedReply {
    pub(super) packet: Packet,
    pub(super) space: Option<Permit>,
}

impl SessionPermits {
    /// Counts the bytes that a connection buffers for requests that have not fully arrived. Returns whether the limit
    /// allows it.
    pub(super) fn recount(&mut self, connection: &Connection) -> bool {
        self.bytes.as_mut().is_none_or(|bytes| bytes.resize(connection.held_bytes()))
    }
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

/// An incoming call that has not been answered.
#[derive(Debug)]
pub(crate) struct ServedCall {
    pub(super) call: Arc<CallState>,
    /// Woken when the caller does not wait for the answer any longer.
    pub(super) cancelled: Option<Waker>,
    /// Woken when an item may be sent, or never will.
    pub(super) producer: Option<Waker>,
    /// Woken when there is send-queue space for a large answer. Separate from `producer`: a handler may leave its items
    /// to a task that still waits.
    pub(super) send_space: Option<Waker>,
    pub(super) subscriber: Option<Arc<dyn ItemSource>>,
    /// Since when a stream has had no credit.
    pub(super) starved: Option<Instant>,
}

impl ServedCall {
    pub(super) fn of(call: Arc<CallState>) -> Self {
        Self { call, cancelled: None, producer: None, send_space: None, subscriber: None, starved: None }
    }

    /// Returns when the call is answered without its handler.
    pub(super) fn due(&self) -> Option<Instant> {
        let starved = self.starved.and_then(|since| since.checked_add(CREDIT_TIMEOUT));
        [self.call.deadline(), starved].into_iter().flatten().min()
    }

    /// Returns the wakers of all that wait for something of this call.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        [self.cancelled.take(), self.producer.take(), self.send_space.take()].into_iter().flatten()
    }
}

/// A source that fills a streamed answer by itself: a subscription.
pub(crate) trait ItemSource: std::fmt::Debug + Send + Sync {
    /// Sends the items that credit and space allow, and returns whether there were any. `id` is the call.
    fn pump(&self, outlet: &mut dyn ItemOutlet, id: CallId) -> bool;

    /// Ends the source, as its call has ended.
    fn end(&self);
}

/// The sink for items of a streamed answer.
pub(crate) trait ItemOutlet {
    /// Whether one more item may be sent now.
    fn may_send(&mut self, id: CallId) -> bool;

    /// Queues an item.
    fn send_item(&mut self, id: CallId, item: Packet) -> Result<(), Misuse>;
}

/// How long a stream may be without credit before it is ended: it occupies a permit, and in the blocking face a thread.
pub(crate) const CREDIT_TIMEOUT: Duration = Duration::from_secs(600);

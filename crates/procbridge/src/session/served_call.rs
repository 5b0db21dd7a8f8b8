//! The entry of a call that came, as long as it has no answer, and the answer itself.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use procbridge_proto::{CallId, Misuse, Packet};

use crate::limits::permits::Permit;
use crate::session::call_state::CallState;

/// A call that is to be served.
#[derive(Debug)]
pub(crate) struct IncomingCall {
    pub(crate) id: CallId,
    pub(crate) call: Arc<CallState>,
    /// Its place among the calls that are served; given back when the handler has ended.
    #[allow(dead_code, reason = "a share counts as long as it is held")]
    pub(crate) slot: Option<Permit>,
}

/// An answer or an item that is ready to be queued, with the space that it takes until its peer has taken it.
#[derive(Debug)]
pub(crate) struct PreparedReply {
    pub(super) packet: Packet,
    pub(super) space: Option<Permit>,
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
    pub(super) call: Arc<CallState>,
    /// Told when nobody waits for the answer any longer.
    pub(super) cancelled: Option<Waker>,
    /// Told when an item may be sent, or never will.
    pub(super) producer: Option<Waker>,
    /// Told when there is room for a large answer. A handler may leave its items to a task that still waits.
    pub(super) room: Option<Waker>,
    pub(super) subscriber: Option<Arc<dyn ItemSource>>,
    /// Since when a stream waits for credit.
    pub(super) starved: Option<Instant>,
}

impl ServedCall {
    pub(super) fn of(call: Arc<CallState>) -> Self {
        Self { call, cancelled: None, producer: None, room: None, subscriber: None, starved: None }
    }

    /// When it is answered without its handler, and with what.
    pub(super) fn due(&self) -> Option<Instant> {
        let starved = self.starved.and_then(|since| since.checked_add(CREDIT_TIMEOUT));
        [self.call.deadline(), starved].into_iter().flatten().min()
    }

    /// Everybody who waits for something of this call.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        [self.cancelled.take(), self.producer.take(), self.room.take()].into_iter().flatten()
    }
}

/// What fills a streamed answer by itself: a subscription.
pub(crate) trait ItemSource: std::fmt::Debug + Send + Sync {
    /// Sends what there is credit and space for, and tells whether that was anything. `id` is the call.
    fn pump(&self, outlet: &mut dyn ItemOutlet, id: CallId) -> bool;

    /// Tells that the call has ended.
    fn end(&self);
}

/// Where the items of a streamed answer go.
pub(crate) trait ItemOutlet {
    /// Whether one more may be sent now.
    fn may_send(&mut self, id: CallId) -> bool;

    /// Queues an item.
    fn send_item(&mut self, id: CallId, item: Packet) -> Result<(), Misuse>;
}

/// A stream whose caller gives no credit for so long is ended: it holds a place, and in the blocking face a thread.
pub(crate) const CREDIT_TIMEOUT: Duration = Duration::from_secs(600);

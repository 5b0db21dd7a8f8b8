//! Sends the items of a streamed answer, for its handler (PB-STR-*).

use procbridge_proto::code;
use serde::Serialize;

use crate::blocking::wait;
use crate::reply_error::ReplyError;
use crate::service::call::Call;
use crate::service::item_sender::ItemSender;
use crate::service::reply::Reply;

/// The sink into which a streaming handler sends its items, see [`Router::stream`](crate::Router::stream).
#[derive(Debug)]
pub struct ItemSink {
    producer: ItemSender,
}

impl ItemSink {
    pub(crate) fn new(call: &Call) -> Self {
        Self { producer: ItemSender::new(call) }
    }

    /// Sends an item, with flow control: it waits for the caller's credit.
    ///
    /// # Errors
    ///
    /// The caller has cancelled the call or is gone, or the item cannot be sent. The error is a [`ReplyError`], which the
    /// handler returns with `?`.
    ///
    /// # Blocking
    ///
    /// While the caller has not asked for more items (backpressure). More credit, the caller's disconnect and the
    /// call's end wake it.
    pub fn send<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ReplyError> {
        let Some(packet) = self.producer.item(item)? else { return self.producer.collect() };
        let Some(session_call) = self.producer.session_call() else { return Ok(()) };
        let mut packet = Some(packet);
        let sent = wait::wait(&session_call.session, None, |waker| {
            session_call.session.poll_item(session_call.id, &mut packet, waker)
        });
        sent.unwrap_or_else(|| Err(ReplyError::new("the item was not sent").with_code(code::INTERNAL)))
    }

    pub(crate) fn finish(self, reply: Reply) -> Result<Reply, ReplyError> {
        self.producer.finish(reply)
    }
}

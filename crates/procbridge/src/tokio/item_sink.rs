//! Sends the items of a streamed answer, for its handler (PB-STR-*).

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};

use ::tokio::task::coop;
use serde::Serialize;

use crate::reply_error::{self, ReplyError};
use crate::service::call::SessionCall;
use crate::service::item_sender::ItemSender;
use crate::service::reply::Reply;
use crate::session::served_call::CREDIT_TIMEOUT;
use crate::tokio::call::Call;
use crate::tokio::clock;
use crate::tokio::transport::within;

/// The sink into which a streaming handler sends its items, see [`Router::stream`](crate::tokio::Router::stream).
#[derive(Debug)]
pub struct ItemSink {
    /// `None` once the handler has ended.
    producer: Arc<Mutex<Option<ItemSender>>>,
    session_call: Option<SessionCall>,
}

/// The other end of a sink: the items collected for a caller that wants one array.
#[derive(Debug)]
pub(super) struct Collector {
    producer: Arc<Mutex<Option<ItemSender>>>,
}

impl ItemSink {
    pub(super) fn new(call: &Call) -> (Self, Collector) {
        let producer = Arc::new(Mutex::new(Some(ItemSender::new(call))));
        (
            Self { producer: producer.clone(), session_call: call.session_call().cloned() },
            Collector { producer },
        )
    }

    /// Sends an item, with flow control: it waits for the caller's credit (backpressure). This function serialises the
    /// item, not the future.
    ///
    /// # Errors
    ///
    /// The caller has cancelled the call or is gone, the call has ended, or the item cannot be sent. The error is a
    /// [`ReplyError`], which the handler returns with `?`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the item was not sent.
    pub fn send<'a, T: Serialize + ?Sized>(
        &'a mut self,
        item: &T,
    ) -> impl Future<Output = Result<(), ReplyError>> + Send + use<'a, T> {
        let packet = self.with(|producer| producer.item(item));
        async move {
            // Yield: a handler that sends item after item must not keep the thread.
            coop::consume_budget().await;
            let mut packet = packet?;
            match &self.session_call {
                Some(session_call) if packet.is_some() => {
                    let sent = poll_fn(|context| {
                        session_call.session.poll_item(session_call.id, &mut packet, context.waker())
                    });
                    within(clock::now().checked_add(CREDIT_TIMEOUT), sent)
                        .await
                        .unwrap_or_else(|| Err(reply_error::timed_out()))
                }
                _ => self.with(ItemSender::collect),
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut ItemSender) -> Result<T, ReplyError>) -> Result<T, ReplyError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        producer.as_mut().ok_or_else(reply_error::cancelled_by_caller).and_then(work)
    }
}

impl Collector {
    /// Returns the answer to a call whose handler has sent its items and returned `reply`.
    pub(super) fn finish(self, reply: Reply) -> Result<Reply, ReplyError> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        producer.map_or_else(|| Err(reply_error::panicked()), |producer| producer.finish(reply))
    }
}

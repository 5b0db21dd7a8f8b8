//! Sends the items of a streamed answer. A caller that did not ask for a stream gets them as one array (PB-STR-*).

use procbridge_proto::{Limits, Packet};
use serde::Serialize;

use crate::json::serialize;
use crate::limits::permits::Permit;
use crate::reply_error::{self, ReplyError};
use crate::service::call::Call;
use crate::service::call::SessionCall;
use crate::service::reply::Reply;
use crate::session::served_call::PreparedReply;

/// The sender of a handler's items.
#[derive(Debug)]
pub(crate) struct ItemSender {
    call: Call,
    limits: Limits,
    collected: Option<Collected>,
}

/// The array collected for a caller that wants one answer.
#[derive(Debug)]
struct Collected {
    text: Vec<u8>,
    /// How much of the text is sent items. An item behind that was only written, perhaps not to its end.
    sent: usize,
    space: Option<Permit>,
}

impl ItemSender {
    pub(crate) fn new(call: &Call) -> Self {
        let is_collected = call.session_call().is_none() || !call.wants_items();
        let collected = is_collected.then(|| Collected { text: b"[".to_vec(), sent: 1, space: None });
        Self { call: call.clone(), limits: call.limits(), collected }
    }

    /// Returns the session and call that items go to.
    pub(crate) fn session_call(&self) -> Option<&SessionCall> {
        self.call.session_call()
    }

    /// Returns the packet that carries `item`. Returns none if the item was written to the collected array, for
    /// [`collect`](Self::collect).
    pub(crate) fn item<T: Serialize + ?Sized>(
        &mut self,
        item: &T,
    ) -> Result<Option<PreparedReply>, ReplyError> {
        if self.call.is_cancelled() {
            return Err(reply_error::cancelled_by_caller());
        }
        let unsendable =
            |error: serde_json::Error| ReplyError::internal(format!("the item cannot be sent: {error}"));
        let Some(collected) = &mut self.collected else {
            let packet = Packet::item().write(|out| serialize::write(out, item)).map_err(unsendable)?;
            let packet = packet.finish(&self.limits).map_err(reply_error::unsendable)?;
            let prepared = match self.call.session_call() {
                Some(session_call) => session_call.session.prepare(packet)?,
                None => packet.into(),
            };
            return Ok(Some(prepared.map(|packet| self.call.matching_version(packet))));
        };
        let Collected { text, sent, space } = collected;
        text.truncate(*sent);
        if *sent > 1 {
            text.push(b',');
        }
        serialize::write(text, item).map_err(unsendable)?;
        if text.len() >= self.limits.max_body() as usize {
            let message = format!(
                "the items exceed the limit of {} B for one answer (max_body); ask for a stream",
                self.limits.max_body()
            );
            return Err(ReplyError::new(message).with_code(procbridge_proto::code::TOO_LARGE));
        }
        if let Some(session_call) = self.call.session_call() {
            session_call.session.grow_reply_bytes(space, text.len())?;
        }
        Ok(None)
    }

    /// Sends the item that was written last to the array.
    pub(crate) fn collect(&mut self) -> Result<(), ReplyError> {
        if self.call.is_cancelled() {
            return Err(reply_error::cancelled_by_caller());
        }
        if let Some(Collected { text, sent, .. }) = &mut self.collected {
            *sent = text.len();
        }
        Ok(())
    }

    /// Returns the answer to a call whose handler has sent its items and returned `reply`.
    pub(crate) fn finish(self, reply: Reply) -> Result<Reply, ReplyError> {
        let Some(Collected { mut text, sent, .. }) = self.collected else { return Ok(reply) };
        text.truncate(sent);
        text.push(b']');
        let answer = Packet::good(self.call.version()).write(|out| {
            out.extend_from_slice(&text);
            Ok::<(), ReplyError>(())
        })?;
        Ok(Reply::of(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use procbridge_proto::Version;
    use serde::Serializer;
    use serde::ser::SerializeSeq;

    use super::*;
    use crate::client::request::ResultForm;
    use crate::config::server::ServerConfig;
    use crate::service::dispatch;
    use crate::session::reading::Reader;
    use crate::session::testing::{self, Ends, handled};

    /// Panics after its first element.
    struct Panics;

    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_seq(None)?.serialize_element(&1)?;
            panic!("half of it is written")
        }
    }

    /// A handler may go on after an item that cannot be sent.
    #[test]
    fn nothing_is_left_of_an_item_that_was_not_written_to_its_end() {
        let mut ends = Ends::server(Reader::None);
        ends.peer.call(testing::call("work", &(), ResultForm::Result)).unwrap();
        ends.deliver();
        let mut producer = ItemSender::new(&handled(&ends.session, &ends.session.take_incoming().unwrap()));
        let mut send = |item: &[f64]| producer.item(item).and_then(|_| producer.collect());
        assert!(send(&[f64::NAN]).is_err());
        send(&[1.0]).unwrap();
        assert!(send(&[2.0, f64::NAN]).is_err());
        send(&[3.0]).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| producer.item(&Panics))).is_err());
        let reply = producer.finish(Reply::of(Packet::good(Version::V1_1))).unwrap();
        let packet = dispatch::finish(&ServerConfig::new(), reply).unwrap();
        assert_eq!(&packet.bytes()[11..], br#"{"payload":[[1.0],[3.0]]}"#);
    }
}

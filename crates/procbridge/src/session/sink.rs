//! The items of a streamed answer, on their way out. A caller that did not ask for a stream gets them as one array
//! (PB-STR-*).

use procbridge_proto::{Limits, Packet};
use serde::Serialize;

use crate::call::Call;
use crate::handler::Reply;
use crate::json;
use crate::refusal::Refusal;
use crate::router;
use crate::session::serving::Place;

/// Where a handler's items go.
#[derive(Debug)]
pub(crate) struct Producer {
    call: Call,
    limits: Limits,
    /// The array that is collected for a caller that wants no items.
    collected: Option<Vec<u8>>,
}

impl Producer {
    pub(crate) fn new(call: &Call) -> Self {
        let collected = (call.place().is_none() || !call.wants_items()).then(|| b"[".to_vec());
        Self { call: call.clone(), limits: call.limits(), collected }
    }

    /// The session and call that items go to.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.call.place()
    }

    /// The packet that carries `item`; none if it has been collected.
    pub(crate) fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<Option<Packet>, Refusal> {
        if self.call.is_cancelled() {
            return Err(router::cancelled_by_caller());
        }
        let unsendable =
            |error: serde_json::Error| Refusal::internal(format!("the item cannot be sent: {error}"));
        let Some(collected) = &mut self.collected else {
            let packet = Packet::item().write(|out| json::write(out, item)).map_err(unsendable)?;
            let packet = packet.finish(&self.limits).map_err(router::unsendable)?;
            return Ok(Some(self.call.in_kind(packet)));
        };
        if collected.len() > 1 {
            collected.push(b',');
        }
        json::write(collected, item).map_err(unsendable)?;
        if collected.len() >= self.limits.max_body() as usize {
            let message = format!(
                "the items exceed the limit of {} B for one answer (max_body); ask for a stream",
                self.limits.max_body()
            );
            return Err(Refusal::new(message).with_code(procbridge_proto::code::TOO_LARGE));
        }
        Ok(None)
    }

    /// The answer to a call whose handler has sent its items and returned `reply`.
    pub(crate) fn finish(self, reply: Reply) -> Result<Reply, Refusal> {
        let Some(mut collected) = self.collected else { return Ok(reply) };
        collected.push(b']');
        let answer = Packet::good(self.call.version()).write(|out| {
            out.extend_from_slice(&collected);
            Ok::<(), Refusal>(())
        })?;
        Ok(Reply::of(answer))
    }
}

//! The core alone: two connections joined in memory.

use procbridge_proto::{Connection, Event, Limits, Packet, Settings, Version};
use serde_json::value::RawValue;

use crate::heap::Heap;
use crate::settings::{PAYLOAD, Result, WARM};

/// Makes `calls` on a session.
pub(crate) fn call(calls: usize) -> Result<()> {
    let limits = Limits::default();
    let mut opener = Connection::client(limits).with_session(Settings::new().with_max_calls(0));
    let mut acceptor = Connection::server(limits).with_session(Settings::new());
    let payload = RawValue::from_string(PAYLOAD.to_string())?;
    let mut heap = Heap::now();
    for number in 0..WARM + calls {
        if number == WARM {
            heap = Heap::now();
        }
        there_and_back(&mut opener, &mut acceptor, payload.get())?;
    }
    heap.tell(calls);
    Ok(())
}

fn there_and_back(opener: &mut Connection, acceptor: &mut Connection, payload: &str) -> Result<()> {
    let limits = Limits::default();
    let request = Packet::request(Version::V1_1, Some("echo"), None);
    opener.call(request.json_text(payload)?.finish(&limits)?)?;
    carry(opener, acceptor);
    let (id, answer) = loop {
        match acceptor.poll_event() {
            Some(Event::Request { id, request }) => {
                let answer =
                    Packet::good(request.version()).json_text(request.payload().unwrap_or("null"))?;
                break (id, answer.finish(&limits)?);
            }
            Some(Event::Session) => {}
            other => return Err(format!("no request but {other:?}").into()),
        }
    };
    acceptor.reply(id, answer)?;
    carry(acceptor, opener);
    loop {
        match opener.poll_event() {
            Some(Event::Response { response, .. }) => {
                let arrived = response.good().and_then(|good| good.payload());
                return if arrived == Some(payload) { Ok(()) } else { Err("the echo differs".into()) };
            }
            Some(Event::Session) => {}
            other => return Err(format!("no response but {other:?}").into()),
        }
    }
}

fn carry(from: &mut Connection, to: &mut Connection) {
    while !from.transmit().is_empty() {
        let bytes = from.transmit();
        let count = bytes.len();
        to.receive(bytes);
        from.transmitted(count);
    }
}

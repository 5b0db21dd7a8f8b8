//! `same-work-bulk`: the echo of `raw-bulk` that touches each byte as often as the protocol must.
//!
//! Both sides copy the payload into a packet once, and check each byte that arrives once, for UTF-8 and JSON. The packet is
//! read into its final place in pieces, and each is checked while the cache has it. All memory is used again.

use std::io::Write;

use contender::{Endpoint, Report, Result, Run};
use serde_json::value::RawValue;

use crate::packet::{self, Answer, FRONT, GOOD, Incoming, REQUEST, Request, TIMEOUT, invalid};
use crate::socket::{Listener, Socket};

/// Bytes that a Unix socket is asked to take at a time, as ProcBridge does for large packets. TCP sees to that itself.
const SEND_BUFFER: usize = 512 << 10;

const REQUEST_ENVELOPE: &[u8] = br#"{"method":"bulk","payload":"#;
const ANSWER_ENVELOPE: &[u8] = br#"{"payload":"#;

pub(crate) fn serve(endpoint: &Endpoint) -> Result<()> {
    let listener = Listener::bind(endpoint)?;
    contender::ready();
    listener.serve_each(|socket| {
        // A client that goes away, or sends what is wrong, costs itself only.
        let _ = answer(socket);
    })
}

fn answer(mut socket: Socket) -> Result<()> {
    tune(&socket)?;
    let (mut incoming, mut packet, mut last) = (Incoming::new(), Vec::new(), 0);
    loop {
        let mut scan = Scan::new(REQUEST_ENVELOPE);
        let (id, end) = incoming.receive(&mut socket, REQUEST, |bytes, end| scan.arrived(bytes, end))?;
        if id <= last {
            return Err(invalid("a call id that was used").into());
        }
        last = id;
        let envelope = incoming.envelope(end);
        let payload = match scan.string(envelope) {
            Some(string) => string,
            None => {
                let Request { method, payload } = serde_json::from_slice::<Request<&RawValue>>(envelope)?;
                if method != "bulk" {
                    return Err(invalid("no such method").into());
                }
                payload.get().as_bytes()
            }
        };
        packet::begin(&mut packet, GOOD, id, ANSWER_ENVELOPE);
        packet.extend_from_slice(payload);
        packet::end(&mut packet);
        socket.write_all(&packet)?;
    }
}

pub(crate) fn call(run: &Run) -> Result<Report> {
    let text = run.payload.text();
    run.threads(|_| {
        let mut client = Client::connect(run)?;
        if client.call(text.as_bytes())? != text.as_bytes() {
            return Err("the echo differs".into());
        }
        let text = &text;
        Ok(move || client.call(text.as_bytes()).map(drop))
    })
}

struct Client {
    socket: Socket,
    incoming: Incoming,
    packet: Vec<u8>,
    last: u32,
}

impl Client {
    fn connect(run: &Run) -> Result<Self> {
        let socket = Socket::connect(&run.endpoint)?;
        socket.without_delay()?;
        tune(&socket)?;
        Ok(Self { socket, incoming: Incoming::new(), packet: Vec::new(), last: 0 })
    }

    fn call(&mut self, payload: &[u8]) -> Result<&[u8]> {
        self.last += 1;
        packet::begin(&mut self.packet, REQUEST, self.last, REQUEST_ENVELOPE);
        self.packet.extend_from_slice(payload);
        packet::end(&mut self.packet);
        self.socket.write_all(&self.packet)?;
        let mut scan = Scan::new(ANSWER_ENVELOPE);
        let (id, end) =
            self.incoming.receive(&mut self.socket, GOOD, |bytes, end| scan.arrived(bytes, end))?;
        if id != self.last {
            return Err(invalid("the answer to another call").into());
        }
        let envelope = self.incoming.envelope(end);
        match scan.string(envelope) {
            Some(string) => Ok(string),
            None => Ok(serde_json::from_slice::<Answer<&RawValue>>(envelope)?.payload.get().as_bytes()),
        }
    }
}

fn tune(socket: &Socket) -> Result<()> {
    socket.set_timeout(TIMEOUT)?;
    if let Socket::Unix(_) = socket {
        socket.set_send_buffer(SEND_BUFFER)?;
    }
    Ok(())
}

/// Whether a payload is a string of plain text, found out while it arrives. Any other goes to serde_json.
struct Scan {
    /// The text before the payload.
    envelope: &'static [u8],
    /// Up to where the packet has been looked at.
    seen: usize,
    is_plain: bool,
}

impl Scan {
    fn new(envelope: &'static [u8]) -> Self {
        Self { envelope, seen: FRONT + envelope.len() + 1, is_plain: true }
    }

    /// Looks at what has arrived of a packet since the last time, without the quotes around the text.
    fn arrived(&mut self, bytes: &[u8], end: usize) {
        let until = bytes.len().min(end.saturating_sub(2));
        if let Some(new) = bytes.get(self.seen..until) {
            self.is_plain &= is_plain(new);
            self.seen = until;
        }
    }

    /// Returns the payload with its quotes, if all of it is plain text.
    fn string<'a>(&self, envelope: &'a [u8]) -> Option<&'a [u8]> {
        let payload = envelope.strip_prefix(self.envelope)?.strip_suffix(b"}")?;
        let is_string = payload.len() >= 2 && payload.starts_with(b"\"") && payload.ends_with(b"\"");
        (is_string && self.is_plain).then_some(payload)
    }
}

/// Whether it is ASCII that stands for itself in a JSON string. No branch, so that the compiler takes many bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let odd = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte >= 0x80);
    !bytes.iter().fold(false, |found, &byte| found | odd(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at an answer with this payload that arrives `step` bytes at a time.
    fn string(payload: &[u8], step: usize) -> Option<Vec<u8>> {
        let mut packet = Vec::new();
        packet::begin(&mut packet, GOOD, 1, ANSWER_ENVELOPE);
        packet.extend_from_slice(payload);
        packet::end(&mut packet);
        let mut scan = Scan::new(ANSWER_ENVELOPE);
        for end in (FRONT..packet.len()).step_by(step).chain([packet.len()]) {
            scan.arrived(&packet[..end], packet.len());
        }
        scan.string(&packet[FRONT..]).map(<[u8]>::to_vec)
    }

    #[test]
    fn plain_text_is_found_however_it_arrives() {
        for payload in [&b"\"\""[..], b"\"a\"", b"\"the quick brown fox jumps over the lazy dog\""] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(string(payload, step).as_deref(), Some(payload), "{step}");
            }
        }
    }

    #[test]
    fn a_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for odd in [0, b'\n', 0x1F, b'"', b'\\', 0x80, 0xFF] {
            for at in 1..99 {
                let mut payload = [b'a'; 100];
                (payload[0], payload[99]) = (b'"', b'"');
                payload[at] = odd;
                for step in [1, 7, 1000] {
                    assert_eq!(string(&payload, step), None, "{odd} at {at}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_string_is_not_taken_for_one() {
        for payload in ["1", "\"", "[\"a\"]", "\"a\",\"b\":\"c\"", "a\"", "\"a"] {
            assert_eq!(string(payload.as_bytes(), 1000), None, "{payload}");
        }
    }
}

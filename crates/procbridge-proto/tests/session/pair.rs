//! Two connections joined in memory, and session packets by hand.

use procbridge_proto::{
    CallId, Connection, Event, Header, Limits, Packet, PacketBuilder, ProtocolError, Settings, Status,
    Version,
};

/// A session and both its ends.
pub(crate) struct Pair {
    pub(crate) opener: Connection,
    pub(crate) acceptor: Connection,
}

/// A session packet as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) kind: Status,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) content: Vec<u8>,
}

impl Pair {
    /// Returns a session whose opening call, of the method `open`, has been answered.
    pub(crate) fn new() -> Self {
        Self::with(Settings::new().with_max_calls(0), Settings::new())
    }

    pub(crate) fn with(opener: Settings, acceptor: Settings) -> Self {
        let limits = Limits::default();
        Self::of(
            Connection::client(limits).with_session(opener),
            Connection::server(limits).with_session(acceptor),
        )
    }

    pub(crate) fn of(opener: Connection, acceptor: Connection) -> Self {
        let mut pair = Self { opener, acceptor };
        let id = pair.opener.call(request("open")).unwrap();
        pair.carry();
        assert_eq!(pair.acceptor.poll_event(), Some(Event::Session));
        assert_eq!(asked(&mut pair.acceptor), (id, "open".into()));
        pair.acceptor.reply(id, good("1")).unwrap();
        pair.carry();
        assert_eq!(pair.opener.poll_event(), Some(Event::Session));
        assert_eq!(answered(&mut pair.opener), (id, Ok("1".into())));
        assert_eq!((pair.acceptor.poll_event(), pair.opener.poll_event()), (None, None));
        pair
    }

    /// Moves everything both ways until nothing moves.
    pub(crate) fn carry(&mut self) {
        while !self.opener.transmit().is_empty() || !self.acceptor.transmit().is_empty() {
            carry(&mut self.opener, &mut self.acceptor, usize::MAX);
            carry(&mut self.acceptor, &mut self.opener, usize::MAX);
        }
    }

    /// Moves everything and checks that nothing is left of any call.
    pub(crate) fn rest(&mut self) {
        self.carry();
        for side in [&mut self.opener, &mut self.acceptor] {
            assert_eq!((side.poll_event(), side.pending_calls(), side.served_calls()), (None, 0, 0));
        }
    }
}

/// Moves what one side has to say, in portions of `size` bytes.
pub(crate) fn carry(from: &mut Connection, to: &mut Connection, size: usize) {
    while !from.transmit().is_empty() {
        let portion = &from.transmit()[..size.min(from.transmit().len())];
        to.receive(portion);
        let count = portion.len();
        from.transmitted(count);
    }
}

pub(crate) fn finish(builder: PacketBuilder) -> Packet {
    builder.finish(&Limits::default().with_max_body(u32::MAX)).unwrap()
}

pub(crate) fn request(method: &str) -> Packet {
    finish(Packet::request(Version::V1_1, Some(method), None))
}

pub(crate) fn streamed(method: &str) -> Packet {
    finish(Packet::request(Version::V1_1, Some(method), None).stream())
}

pub(crate) fn one_way(method: &str) -> Packet {
    finish(Packet::request(Version::V1_1, Some(method), None).one_way())
}

pub(crate) fn large(method: &str, size: usize) -> Packet {
    let payload = format!("\"{}\"", "x".repeat(size));
    finish(Packet::request(Version::V1_1, Some(method), None).json_text(&payload).unwrap())
}

pub(crate) fn good(payload: &str) -> Packet {
    finish(Packet::good(Version::V1_1).json_text(payload).unwrap())
}

pub(crate) fn bad(code: &str) -> Packet {
    finish(Packet::bad(Version::V1_1, "", Some(code)))
}

pub(crate) fn item(payload: &str) -> Packet {
    finish(Packet::item().json_text(payload).unwrap())
}

/// Returns the next event, which must be a request: its call and its method.
pub(crate) fn asked(side: &mut Connection) -> (CallId, String) {
    match side.poll_event() {
        Some(Event::Request { id, request }) => (id, request.method().unwrap_or_default().to_owned()),
        other => panic!("no request but {other:?}"),
    }
}

/// Returns the next event, which must be a response: its call, and its payload or its code.
pub(crate) fn answered(side: &mut Connection) -> (CallId, Result<String, String>) {
    match side.poll_event() {
        Some(Event::Response { id, response }) => {
            let good = response.good().map(|good| good.payload().unwrap_or("null").to_owned());
            let bad = response.bad().map(|bad| bad.code().unwrap_or_default().to_owned());
            (id, good.ok_or_else(|| bad.unwrap()))
        }
        other => panic!("no response but {other:?}"),
    }
}

/// Returns the next event, which must be an item: its payload.
pub(crate) fn came(side: &mut Connection) -> String {
    match side.poll_event() {
        Some(Event::Item { item, .. }) => item.payload().unwrap_or("null").to_owned(),
        other => panic!("no item but {other:?}"),
    }
}

/// Returns the next event, which must be the end: its error.
pub(crate) fn failed(side: &mut Connection) -> ProtocolError {
    match side.poll_event() {
        Some(Event::Closed { error: Some(error) }) => error,
        other => panic!("no error but {other:?}"),
    }
}

/// Takes all that a side has to say.
pub(crate) fn drain(side: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !side.transmit().is_empty() {
        let count = side.transmit().len();
        bytes.extend_from_slice(side.transmit());
        side.transmitted(count);
    }
    bytes
}

/// Takes all that a side has to say, packet by packet.
pub(crate) fn said(side: &mut Connection) -> Vec<Wire> {
    let bytes = drain(side);
    let (mut all, mut rest) = (Vec::new(), &bytes[..]);
    while let Some(header) = Header::parse(rest).unwrap() {
        let (packet, behind) = rest.split_at(11 + header.length as usize);
        let id = u32::from_le_bytes(packet[11..15].try_into().unwrap());
        assert_eq!(header.version, Version::V1_1);
        all.push(Wire { kind: header.status, flags: header.flags, id, content: packet[15..].to_vec() });
        rest = behind;
    }
    assert!(rest.is_empty());
    all
}

pub(crate) fn wire(kind: Status, flags: u8, id: u32, content: impl AsRef<[u8]>) -> Wire {
    Wire { kind, flags, id, content: content.as_ref().to_vec() }
}

impl Wire {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.content.len() + 4).unwrap();
        let header = Header { flags: self.flags, ..Header::classic(Version::V1_1, self.kind, length) };
        [&header.encode()[..], &self.id.to_le_bytes(), &self.content].concat()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

//! The code that the targets share: an input's first bytes, portions of the rest, and packets by hand.

use std::collections::BTreeMap;

use procbridge_proto::{Connection, HEADER_LENGTH, Header, Limits, Packet, Settings, Status, Version, flag};

/// Takes the first `N` bytes of an input, which say what is done with the rest. A short input has zeros there.
pub fn choices<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let mut choices = [0; N];
    let count = N.min(input.len());
    choices[..count].copy_from_slice(&input[..count]);
    (choices, &input[count..])
}

/// Cuts `input` into portions whose sizes follow from `seed`: mostly small, some large.
pub fn portions(input: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut rest, mut state, mut all) = (input, u32::from(seed), Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let size = (state >> 16) as usize;
        let size = if size & 7 == 7 { size >> 3 } else { 1 + (size >> 3) % 32 };
        let (portion, behind) = rest.split_at(size.clamp(1, rest.len()));
        all.push(portion);
        rest = behind;
    }
    all
}

/// Returns a session packet.
pub fn packet(kind: Status, flags: u8, id: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap();
    let header = Header { flags, ..Header::classic(Version::V1_1, kind, length) };
    [&header.encode()[..], &id.to_le_bytes(), content].concat()
}

/// Returns a session with its opening call in flight: the opener and the acceptor.
pub fn session(limits: Limits, opener: Settings, acceptor: Settings) -> [Connection; 2] {
    let mut client = Connection::client(limits).with_session(opener);
    let mut server = Connection::server(limits).with_session(acceptor);
    client.call(request(&limits)).unwrap();
    for _ in 0..2 {
        server.receive(client.transmit());
        client.transmitted(client.transmit().len());
        client.receive(server.transmit());
        server.transmitted(server.transmit().len());
    }
    assert!(client.is_session() && server.is_session());
    [client, server]
}

/// Returns a small request.
pub fn request(limits: &Limits) -> Packet {
    Packet::request(Version::V1_1, Some("m"), None).finish(limits).unwrap()
}

/// Returns a small request whose caller welcomes items.
pub fn streamed(limits: &Limits) -> Packet {
    Packet::request(Version::V1_1, Some("m"), None).stream().finish(limits).unwrap()
}

/// Returns everything that waits to be written.
pub fn said(end: &mut Connection) -> Vec<u8> {
    let mut said = Vec::new();
    while !end.transmit().is_empty() {
        said.extend_from_slice(end.transmit());
        end.transmitted(end.transmit().len());
    }
    said
}

/// Returns the answers in what an end says, which is whole packets with at most one answer to a call.
pub fn answers(mut said: &[u8]) -> BTreeMap<u32, Status> {
    let mut answered = BTreeMap::new();
    while let Ok(Some(header)) = Header::parse(said) {
        let packet = said[HEADER_LENGTH..].get(..header.length as usize).expect("a whole packet");
        let id = packet.first_chunk().map_or(0, |id| u32::from_le_bytes(*id));
        if matches!(header.status, Status::GOOD | Status::BAD) && header.flags & flag::MORE == 0 && id != 0 {
            assert_eq!(answered.insert(id, header.status), None, "two answers to call {id}");
        }
        said = &said[HEADER_LENGTH + packet.len()..];
    }
    assert!(said.is_empty(), "{} B that are no packet", said.len());
    answered
}

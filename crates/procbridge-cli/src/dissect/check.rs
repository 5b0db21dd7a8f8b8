//! Checks a packet as far as that is possible without the packets around it.

use procbridge_proto::{
    Connection, Event, HEADER_LENGTH, Header, Limits, Packet, ProtocolError, Settings, Status, Version, flag,
};

use crate::dissect::names;
use crate::dissect::packet::{DissectedPacket, ID_LENGTH};

/// Checks `packet`. Returns its length.
pub(crate) fn check(packet: &DissectedPacket<'_>) -> Result<usize, ProtocolError> {
    let header = match packet.header() {
        Ok(Some(header)) => header,
        Ok(None) => return Err(truncated(packet.bytes().len(), HEADER_LENGTH, "header")),
        Err(error) => return Err(error.clone()),
    };
    let length = HEADER_LENGTH + header.length as usize;
    if packet.has_id() {
        check_session(packet, header)?;
    } else {
        check_classic(header, packet.bytes().get(..length).unwrap_or(packet.bytes()))?;
    }
    Ok(length)
}

/// Checks a packet that has a call id.
fn check_session(packet: &DissectedPacket<'_>, header: &Header) -> Result<(), ProtocolError> {
    let kind = header.status;
    if header.version != Version::V1_1 {
        let (found, expected) = (header.version.bytes(), Some(Version::V1_1));
        return Err(ProtocolError::UnsupportedVersion { found, expected });
    }
    if header.length < ID_LENGTH {
        return Err(ProtocolError::TruncatedId { length: header.length });
    }
    let (received, expected) = (packet.whole_body().len(), header.length as usize);
    if received < expected {
        return Err(truncated(received, expected, "body"));
    }
    let id = packet.id().unwrap_or_default();
    let is_about_session = matches!(kind, Status::HELLO | Status::PING | Status::PONG | Status::GOODBYE);
    if kind.0 <= Status::GOODBYE.0 && is_about_session != (id == 0) {
        return Err(ProtocolError::InvalidId { kind, id });
    }
    let carries = matches!(kind, Status::REQUEST | Status::GOOD | Status::BAD | Status::ITEM);
    if !carries && kind.0 <= Status::GOODBYE.0 {
        if names::is_compressed(header) {
            return Err(ProtocolError::UnexpectedCodec { kind, flags: header.flags });
        }
        if header.flags & flag::MORE != 0 {
            return Err(ProtocolError::UnexpectedPiece { kind, id });
        }
    }
    match kind {
        _ if !packet.is_json() => Ok(()),
        // These packets may have no body.
        Status::PING | Status::CANCEL if packet.body().is_empty() => Ok(()),
        // These have the rules of the classic packet. The others are objects like a good response.
        Status::REQUEST | Status::BAD | Status::HELLO => check_as(packet, kind),
        _ => check_as(packet, Status::GOOD),
    }
}

/// Checks the body as that of a classic packet.
fn check_as(packet: &DissectedPacket<'_>, status: Status) -> Result<(), ProtocolError> {
    let body = packet.body();
    let header = Header::classic(Version::V1_1, status, u32::try_from(body.len()).unwrap_or(u32::MAX));
    check_classic(&header, &[&header.encode()[..], body].concat())
}

/// Feeds a packet to the state machine that clients and servers use.
fn check_classic(header: &Header, bytes: &[u8]) -> Result<(), ProtocolError> {
    let limits = Limits::default().with_max_body(u32::MAX).with_max_method(u32::MAX);
    let mut connection = match header.status {
        Status::REQUEST => Connection::server(limits),
        Status::GOOD | Status::BAD => client_with_call(header.version, Connection::client(limits), limits),
        Status::HELLO if header.version == Version::V1_1 => {
            client_with_call(header.version, Connection::client(limits).with_session(Settings::new()), limits)
        }
        found => {
            let expected = "a request (0) or a response (1 or 2)";
            return Err(ProtocolError::UnexpectedStatus { found, expected });
        }
    };
    connection.receive(bytes);
    connection.receive_end();
    loop {
        match connection.poll_event() {
            Some(Event::Closed { error: Some(error) }) => return Err(error),
            Some(Event::Session) => {}
            _ => return Ok(()),
        }
    }
}

/// Returns `connection` with a call in flight, so that it waits for a response in `version`.
fn client_with_call(version: Version, mut connection: Connection, limits: Limits) -> Connection {
    let request = Packet::request(version, Some("decode"), None).finish(&limits);
    let sent = request.and_then(|request| connection.call(request));
    debug_assert!(sent.is_ok(), "a short request on a new connection");
    connection
}

fn truncated(received: usize, expected: usize, part: &'static str) -> ProtocolError {
    ProtocolError::Truncated { received, expected, part }
}

//! Checks a packet.

use procbridge_proto::{Connection, Event, Header, Limits, Packet, ProtocolError, Status, Terms, Version};

pub(crate) fn check_classic(header: &Header, bytes: &[u8]) -> Result<(), ProtocolError> {
    let limits = Limits::default().with_max_body(u32::MAX).with_max_method(u32::MAX);
    let mut connection = match header.status {
        Status::REQUEST => Connection::server(limits),
        Status::GOOD | Status::BAD => asking(header.version, limits),
        Status::HELLO if header.version == Version::V1_1 => {
            asking_with(header.version, Connection::client(limits).with_session(Terms::new()), limits)
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

/// The side of a connection that waits for a response in `version`.
fn asking(version: Version, limits: Limits) -> Connection {
    asking_with(version, Connection::client(limits), limits)
}

fn asking_with(version: Version, mut connection: Connection, limits: Limits) -> Connection {
    let request = Packet::request(version, Some("decode"), None).finish(&limits);
    let asked = request.and_then(|request| connection.call(request));
    debug_assert!(asked.is_ok(), "a short request on a new connection");
    connection
}

pub(crate) fn truncated(received: usize, expected: usize, part: &'static str) -> ProtocolError {
    ProtocolError::Truncated { received, expected, part }
}

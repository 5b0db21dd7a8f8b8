//! Two connections joined in memory: what each side may do, and when.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use procbridge_proto::{Connection, Ending, Event, Limits, Misuse, Packet, Version, code};

fn packet(builder: procbridge_proto::PacketBuilder) -> Packet {
    builder.finish(&Limits::default()).unwrap()
}

fn request(version: Version) -> Packet {
    packet(Packet::request(version, Some("m"), None))
}

/// Moves everything from one side to the other, in portions of `size` bytes.
fn carry(from: &mut Connection, to: &mut Connection, size: usize) {
    while !from.transmit().is_empty() {
        let portion = from.transmit().iter().copied().take(size).collect::<Vec<_>>();
        from.transmitted(portion.len());
        to.receive(&portion);
    }
}

#[test]
fn a_call_goes_there_and_back_in_portions_of_any_size() {
    for version in [Version::V1_1, Version::V1_0] {
        for size in 1..60 {
            let (mut client, mut server) =
                (Connection::client(Limits::default()), Connection::server(Limits::default()));
            let called = client.call(request(version)).unwrap();
            assert!(!client.has_transmitted());
            carry(&mut client, &mut server, size);
            assert!(client.has_transmitted() && client.wants_input() && !server.wants_input());
            let Some(Event::Request { id, request }) = server.poll_event() else { panic!("no request") };
            assert_eq!(
                (request.version(), request.method(), server.version()),
                (version, Some("m"), version)
            );
            server.reply(id, packet(Packet::good(version).json_text("1").unwrap())).unwrap();
            carry(&mut server, &mut client, size);
            let Some(Event::Response { id, response }) = client.poll_event() else { panic!("no response") };
            assert_eq!((id, response.good().unwrap().payload()), (called, Some("1")));
            assert_eq!((client.wants_input(), server.ending()), (false, Ending::Close));
        }
    }
}

#[test]
fn a_connection_has_one_call_and_one_answer() {
    let (mut client, mut server) =
        (Connection::client(Limits::default()), Connection::server(Limits::default()));
    let id = client.call(request(Version::V1_1)).unwrap();
    assert_eq!(client.call(request(Version::V1_1)), Err(Misuse::NoCallPossible));
    assert_eq!(server.call(request(Version::V1_1)), Err(Misuse::NoCallPossible));
    let answer = || packet(Packet::good(Version::V1_1));
    assert_eq!(server.reply(id, answer()), Err(Misuse::UnknownCall));
    carry(&mut client, &mut server, 1000);
    assert_eq!(server.reply(id, request(Version::V1_1)), Err(Misuse::WrongPacket));
    assert_eq!(server.reply(id, packet(Packet::good(Version::V1_0))), Err(Misuse::WrongPacket));
    assert_eq!(server.reply(id, answer()), Ok(()));
    assert_eq!(server.reply(id, answer()), Err(Misuse::UnknownCall));
    assert_eq!(client.call(answer()), Err(Misuse::WrongPacket));
}

#[test]
fn a_server_that_will_not_wait_says_so_once() {
    let refusal = || packet(Packet::bad(Version::V1_1, "too slow", Some(code::TIMEOUT)));
    let mut server = Connection::server(Limits::default());
    server.receive(b"pb\x01");
    server.refuse(refusal());
    assert_eq!(server.transmit(), refusal().bytes());
    assert_eq!((server.ending(), server.wants_input(), server.poll_event()), (Ending::Linger, false, None));
    server.receive(b"anything");
    server.receive_end();
    assert_eq!(server.poll_event(), None);

    // Too late: the request is there, and its handler's answer counts.
    let mut server = Connection::server(Limits::default());
    server.receive(request(Version::V1_1).bytes());
    server.refuse(refusal());
    assert!(server.transmit().is_empty());
}

#[test]
fn bytes_behind_a_request_make_the_server_linger() {
    let mut server = Connection::server(Limits::default());
    server.receive(request(Version::V1_1).bytes());
    assert_eq!(server.ending(), Ending::Close);
    server.receive(b"x");
    assert_eq!(server.ending(), Ending::Linger);
}

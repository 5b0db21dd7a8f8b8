//! The errors that end a session: each comes once, told by GOODBYE, whatever came before and comes after.

use procbridge_proto::{Connection, Ending, Event, Limits, Misuse, Settings, Status, flag};
use serde_json::Value;

use crate::pair::{Pair, asked, drain, failed, good, request, said, streamed, wire};

/// Feeds `bytes` to the acceptor of a session, whole and byte by byte, and checks that it fails with `name`.
fn acceptor_fails(name: &str, bytes: &[u8]) {
    for portion in [bytes.len(), 1] {
        let mut pair = Pair::new();
        // Its own call, 2, is of no use as the opener takes none; call 3 of the opener is in flight.
        pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        asked(&mut pair.acceptor);
        ends_with(&mut pair.acceptor, name, bytes, portion, 3);
    }
}

/// Does the same for the opener, whose calls 3, a plain one, and 5, a streamed one, are in flight.
fn opener_fails(name: &str, bytes: &[u8]) {
    for portion in [bytes.len(), 1] {
        let mut pair = Pair::new();
        pair.opener.call(request("m")).unwrap();
        pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        ends_with(&mut pair.opener, name, bytes, portion, 0);
    }
}

fn ends_with(side: &mut Connection, name: &str, bytes: &[u8], portion: usize, last_id: u64) {
    for portion in bytes.chunks(portion) {
        side.receive(portion);
    }
    let error = std::iter::from_fn(|| side.poll_event()).last();
    let Some(Event::Closed { error: Some(error) }) = error else { panic!("{name}: {error:?}") };
    assert_eq!(error.name(), name);
    assert_eq!((side.ending(), side.wants_input(), side.is_finished()), (Ending::Linger, false, false));
    assert_eq!((side.pending_calls(), side.served_calls(), side.held_bytes()), (0, 0, 0));
    side.receive(&wire(Status::PING, 0, 0, b"{}").bytes());
    side.receive_end();
    assert_eq!(side.poll_event(), None, "{name}: over is over");
    assert_eq!(side.call(request("m")), Err(Misuse::NoCallPossible));
    side.ping();
    side.goodbye("again");
    let last = said(side).pop().unwrap();
    assert_eq!((last.kind, last.flags, last.id), (Status::GOODBYE, 0, 0), "{name}");
    let body: Value = serde_json::from_slice(&last.content).unwrap();
    assert!(body["last_id"].as_u64().unwrap() >= last_id, "{name}: {body}");
    assert_eq!(body["reason"], error.to_string());
    assert!(side.is_finished());
}

fn both_fail(name: &str, bytes: &[u8]) {
    acceptor_fails(name, bytes);
    opener_fails(name, bytes);
}

#[test]
fn framing() {
    both_fail("not_procbridge", b"GET / HTTP/1.1\r\n");
    both_fail("not_procbridge", b"pP");
    both_fail("unsupported_version", b"pb\x01\x00");
    both_fail("unsupported_version", b"pb\x01\x02");
    both_fail("truncated_id", b"pb\x01\x01\x07\0\0\x03\0\0\0");
    both_fail("truncated_id", b"pb\x01\x01\x77\0\0\0\0\0\0");
    let over = (16 * 1024 * 1024 + 5_u32).to_le_bytes();
    both_fail("too_large", &[b"pb\x01\x01\x01\0\0", &over[..]].concat());
    let limit = Limits::default().with_max_body(100);
    let mut pair = Pair::of(
        Connection::client(limit).with_session(Settings::new()),
        Connection::server(limit).with_session(Settings::new()),
    );
    pair.acceptor.receive(&wire(Status::PING, 0, 0, format!("{{{}}}", " ".repeat(98))).bytes());
    assert_eq!(pair.acceptor.poll_event(), None, "exactly at the limit");
    pair.acceptor.receive(&wire(Status::PING, 0, 0, format!("{{{}}}", " ".repeat(99))).bytes());
    assert_eq!(failed(&mut pair.acceptor).name(), "too_large");
}

#[test]
fn ids() {
    let acceptor = |kind, id| acceptor_fails("invalid_id", &wire(kind, 0, id, b"{}").bytes());
    let opener = |kind, id| opener_fails("invalid_id", &wire(kind, 0, id, b"{}").bytes());
    for kind in [Status::REQUEST, Status::GOOD, Status::BAD, Status::ITEM, Status::CREDIT, Status::CANCEL] {
        acceptor(kind, 0);
        opener(kind, 0);
    }
    for kind in [Status::PING, Status::PONG, Status::GOODBYE] {
        for id in [1, 2, 3, u32::MAX] {
            acceptor(kind, id);
            opener(kind, id);
        }
    }
    acceptor(Status::HELLO, 1);
    opener(Status::HELLO, 1);
    // A request of the receiver's own side, a used one, one below the highest.
    for id in [2, 4, 3, 1, u32::MAX - 1] {
        acceptor(Status::REQUEST, id);
    }
    for id in [1, 3, 5, 7, u32::MAX] {
        opener(Status::REQUEST, id);
    }
    // Answers to calls that were never made, and of the wrong side.
    for kind in [Status::GOOD, Status::BAD, Status::ITEM] {
        for id in [7, 2, 4, u32::MAX] {
            opener(kind, id);
        }
        for id in [2, 4, 3, 1] {
            acceptor(kind, id);
        }
    }
    // Credit and cancelling for what the sender never called.
    for kind in [Status::CREDIT, Status::CANCEL] {
        for id in [5, 2, 4, u32::MAX] {
            acceptor(kind, id);
        }
        for id in [2, 1, 3, 5] {
            opener(kind, id);
        }
    }
}

#[test]
fn flags() {
    for kind in [Status::HELLO, Status::CREDIT, Status::CANCEL, Status::PING, Status::PONG, Status::GOODBYE] {
        both_fail("unexpected_piece", &wire(kind, flag::MORE, 0, b"{}").bytes());
        for codec in [0x10, 0x20, 0x30] {
            both_fail("unexpected_codec", &wire(kind, codec, 0, b"{}").bytes());
        }
    }
    both_fail("unexpected_codec", &wire(Status::REQUEST, 0x30, 5, b"{}").bytes());
    both_fail("unexpected_codec", &wire(Status::GOOD, 0x30, 3, b"{}").bytes());
    // Flags without a meaning change nothing.
    let mut pair = Pair::new();
    pair.acceptor.receive(&wire(Status::REQUEST, 0xC0 | flag::SESSION, 3, b"{}").bytes());
    asked(&mut pair.acceptor);
    pair.acceptor.receive(&wire(Status::PING, 0xC7, 0, b"").bytes());
    assert_eq!(said(&mut pair.acceptor), [wire(Status::PONG, 0, 0, b"")]);
}

#[test]
fn a_codec_that_was_not_offered() {
    use procbridge_proto::Codecs;
    let terms = || Settings::new().with_codecs(Codecs::NONE).with_max_calls(0);
    for codec in [0x10, 0x20] {
        let mut pair = Pair::with(terms(), terms().with_max_calls(9));
        pair.acceptor.receive(&wire(Status::REQUEST, codec, 3, b"{}").bytes());
        assert_eq!(failed(&mut pair.acceptor).name(), "unexpected_codec");
    }
}

#[test]
fn a_second_hello() {
    let hello = || wire(Status::HELLO, flag::SESSION, 0, b"{\"session\":1}").bytes();
    opener_fails("unexpected_status", &hello());
    acceptor_fails("unexpected_status", &[hello(), hello()].concat());
    // One that the opener's limits made it send counts.
    let mut pair = Pair::with(Settings::new(), Settings::new());
    pair.acceptor.receive(&hello());
    assert_eq!(failed(&mut pair.acceptor).name(), "unexpected_status");
}

#[test]
fn contents_that_cannot_be_read() {
    let cases: [(&str, &[u8]); 5] = [
        ("invalid_utf8", b"{\"\xff\":1}"),
        ("invalid_json", b"{\"items\":}"),
        ("invalid_json", b"{} {}"),
        ("not_an_object", b"[]"),
        ("not_an_object", b"7"),
    ];
    for (name, content) in cases {
        acceptor_fails(name, &wire(Status::HELLO, 0, 0, content).bytes());
        acceptor_fails(name, &wire(Status::CREDIT, 0, 3, content).bytes());
        // For a call that has ended it is not looked at.
        let mut pair = Pair::new();
        pair.acceptor.receive(&wire(Status::CREDIT, 0, 1, content).bytes());
        pair.acceptor.receive(&wire(Status::CANCEL, 0, 1, content).bytes());
        assert_eq!((pair.acceptor.poll_event(), pair.acceptor.queued()), (None, 0));
        acceptor_fails(name, &wire(Status::CANCEL, 0, 3, content).bytes());
        both_fail(name, &wire(Status::GOODBYE, 0, 0, content).bytes());
        both_fail(name, &wire(Status::PING, 0, 0, content).bytes());
    }
    for kind in [Status::CREDIT, Status::GOODBYE, Status::HELLO] {
        let id = if kind == Status::CREDIT { 3 } else { 0 };
        acceptor_fails("invalid_json", &wire(kind, 0, id, b"").bytes());
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(128), "]".repeat(128));
    both_fail("too_deep", &wire(Status::GOODBYE, 0, 0, &deep).bytes());
}

#[test]
fn numbers_of_another_form() {
    for value in ["-1", "1.0", "1e3", "\"1\"", "true", "[]", "{}", "9007199254740992", "-0"] {
        for key in ["items", "bytes"] {
            let content = format!("{{\"{key}\":{value}}}");
            acceptor_fails("invalid_number", &wire(Status::CREDIT, 0, 3, content).bytes());
        }
        let content = format!("{{\"last_id\":{value}}}");
        both_fail("invalid_number", &wire(Status::GOODBYE, 0, 0, content).bytes());
    }
    both_fail("invalid_number", &wire(Status::GOODBYE, 0, 0, b"{\"last_id\":4294967296}").bytes());
}

#[test]
fn a_hello_of_another_session() {
    for content in ["{}", "{\"session\":2}", "{\"session\":\"1\"}", "{\"session\":1.0}", "{\"session\":null}"]
    {
        acceptor_fails("unsupported_session", &wire(Status::HELLO, 0, 0, content).bytes());
        // The acceptor's own: the opener has no session then, and says nothing.
        let mut client = Connection::client(Limits::default()).with_session(Settings::new());
        client.call(request("m")).unwrap();
        drain(&mut client);
        client.receive(&hello(content));
        assert_eq!(failed(&mut client).name(), "unsupported_session");
        assert!(client.transmit().is_empty() && !client.is_session() && client.is_finished());
    }
}

fn hello(content: &str) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let header = procbridge_proto::Header::classic(procbridge_proto::Version::V1_1, Status::HELLO, length);
    [&header.encode()[..], content.as_bytes()].concat()
}

#[test]
fn hello_is_read_leniently() {
    let read = |content: &str| {
        let mut client =
            Connection::client(Limits::default()).with_session(Settings::new().with_max_calls(0));
        client.call(request("m")).unwrap();
        drain(&mut client);
        client.receive(&hello(content));
        assert_eq!(client.poll_event(), Some(Event::Session), "{content}");
        let peer = client.peer().unwrap();
        (peer.max_body(), peer.max_calls(), peer.stream_window(), peer.stream_bytes(), peer.name().is_some())
    };
    let defaults = (16_777_216, 128, 64, 1_048_576, false);
    assert_eq!(read("{\"session\":1}"), defaults);
    for value in ["null", "-1", "1.5", "1e2", "\"5\"", "[]", "9007199254740992"] {
        let keys = ["max_body", "max_calls", "stream_window", "stream_bytes"];
        let all: Vec<_> = keys.iter().map(|key| format!(",\"{key}\":{value}")).collect();
        assert_eq!(read(&format!("{{\"x\":1,\"session\":1,\"name\":7{}}}", all.concat())), defaults);
    }
    let content = "{\"name\":\"n\",\"stream_bytes\":4,\"stream_window\":3,\"max_calls\":2,\"max_body\":1,\"session\":1}";
    assert_eq!(read(content), (1, 2, 3, 4, true));
    let content = "{\"session\":1,\"max_body\":9007199254740991,\"max_calls\":9007199254740991}";
    assert_eq!(read(content), (u32::MAX, u32::MAX, 64, 1_048_576, false));
    let content = "{\"session\":2,\"max_calls\":7,\"session\":1,\"max_calls\":null}";
    assert_eq!(read(content), defaults, "the last one counts");
}

#[test]
fn only_a_client_that_offered_takes_hello() {
    let mut client = Connection::client(Limits::default());
    client.call(request("m")).unwrap();
    client.receive(&hello("{\"session\":1}"));
    assert_eq!(failed(&mut client).name(), "unexpected_status");
    for status in [4, 9, 10, 255] {
        let mut client = Connection::client(Limits::default()).with_session(Settings::new());
        client.call(request("m")).unwrap();
        let mut bytes = hello("{\"session\":1}");
        bytes[4] = status;
        client.receive(&bytes);
        assert_eq!(failed(&mut client).name(), "unexpected_status");
    }
}

#[test]
fn an_offer_that_is_refused_is_refused_classically() {
    for content in [&b"[]"[..], b"{\"method\":1}", b"{\"method\""] {
        let mut bytes = wire(Status::REQUEST, flag::SESSION, 0, b"").bytes();
        bytes.truncate(7);
        bytes.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        bytes.extend(content);
        let mut server = Connection::server(Limits::default()).with_session(Settings::new());
        server.receive(&bytes);
        failed(&mut server);
        assert_eq!((server.transmit()[4], server.transmit()[5], server.is_session()), (2, 0, false));
    }
}

#[test]
fn items_without_leave() {
    opener_fails("unexpected_item", &wire(Status::ITEM, 0, 3, b"{}").bytes());
    let mut bytes = wire(Status::ITEM, 0, 5, b"{}").bytes().repeat(64);
    let mut pair = Pair::new();
    pair.opener.call(request("m")).unwrap();
    pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    pair.opener.receive(&bytes);
    assert_eq!(std::iter::from_fn(|| pair.opener.poll_event()).count(), 64);
    bytes.extend(wire(Status::ITEM, 0, 5, b"{}").bytes());
    opener_fails("no_credit", &bytes);
}

#[test]
fn pings_are_bounded() {
    let fits = wire(Status::PING, 0, 0, format!("{{{}}}", " ".repeat(1022)));
    let mut pair = Pair::new();
    pair.acceptor.receive(&fits.bytes());
    assert_eq!(said(&mut pair.acceptor), [wire(Status::PONG, 0, 0, &fits.content)]);
    assert_eq!(pair.acceptor.pings(), 1);
    both_fail("ping_too_large", &wire(Status::PING, 0, 0, format!("{{{}}}", " ".repeat(1023))).bytes());
    // The content of a PONG means nothing to a session.
    let mut pair = Pair::new();
    pair.acceptor.receive(&wire(Status::PONG, 0, 0, b"no JSON").bytes());
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Pong));
    pair.acceptor.ping();
    pair.carry();
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Pong));
}

#[test]
fn unknown_kinds_are_skipped_within_a_budget() {
    let unknown = wire(Status(10), 0xFF, 77, b"what").bytes();
    let ping = wire(Status::PING, 0, 0, b"{}").bytes();
    let mut pair = Pair::new();
    pair.acceptor.receive(&unknown.repeat(64));
    pair.acceptor.receive(&[&ping[..], &unknown].concat().repeat(100));
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.pings()), (None, 100));
    assert_eq!(pair.acceptor.received_packets(), 64 + 200);
    both_fail("too_many_unknown", &unknown.repeat(65));
    both_fail("too_many_unknown", &[&unknown.repeat(64)[..], &ping, &unknown.repeat(2)].concat());
}

#[test]
fn the_end_inside_a_packet() {
    let whole = wire(Status::REQUEST, 0, 5, format!("{{\"x\":\"{}\"}}", "y".repeat(10_000))).bytes();
    for cut in [1, 4, 10, 11, 14, 15, 16, 5000, whole.len() - 1] {
        let mut pair = Pair::new();
        pair.acceptor.receive(&whole[..cut]);
        assert_eq!(pair.acceptor.poll_event(), None);
        pair.acceptor.receive_end();
        let error = failed(&mut pair.acceptor);
        assert_eq!(error.name(), "truncated", "cut at {cut}");
        let (received, expected) = if cut < 11 { (cut, 11) } else { (cut - 11, whole.len() - 11) };
        assert!(error.to_string().contains(&format!("{received} of {expected} bytes")), "{error}");
        assert_eq!(said(&mut pair.acceptor).pop().unwrap().kind, Status::GOODBYE);
    }
}

#[test]
fn the_end_between_packets_is_no_error() {
    let mut pair = Pair::with(Settings::new(), Settings::new());
    pair.opener.call(request("m")).unwrap();
    pair.acceptor.call(request("m")).unwrap();
    pair.carry();
    pair.opener.receive_end();
    pair.acceptor.receive_end();
    let (id, _) = asked(&mut pair.acceptor);
    for side in [&mut pair.opener, &mut pair.acceptor] {
        let last = std::iter::from_fn(|| side.poll_event()).last();
        assert_eq!(last, Some(Event::Closed { error: None }));
        assert_eq!((side.pending_calls(), side.served_calls(), side.wants_input()), (0, 1, false));
        side.receive_end();
        assert_eq!(side.poll_event(), None);
    }
    // A peer that still reads can be answered.
    assert!(!pair.acceptor.is_finished());
    pair.acceptor.reply(id, good("1")).unwrap();
    assert_eq!(said(&mut pair.acceptor).len(), 1);
    assert!(pair.acceptor.is_finished());
    assert_eq!(pair.acceptor.ending(), Ending::Close);
}

//! Calls in both directions.

use procbridge_proto::{
    Codecs, Connection, Event, HEADER_LENGTH, Header, Limits, Misuse, Packet, Settings, Status, Version, flag,
};
use serde_json::{Value, json};

use crate::pair::{Pair, answered, asked, bad, carry, drain, good, item, one_way, request, said, streamed};

#[test]
fn an_offer_is_a_classic_request_with_two_bytes_in_it() {
    let mut client = Connection::client(Limits::default()).with_session(Settings::new());
    client.call(request("m")).unwrap();
    let mut expected = request("m").into_bytes();
    expected[5] = flag::SESSION;
    expected[6] = Codecs::available().bits();
    assert_eq!(client.transmit(), expected);
    assert_eq!(client.call(request("m")), Err(Misuse::NoCallPossible), "nothing is sent until the answer");
    for (packet, flags) in [(streamed("m"), flag::STREAM), (one_way("m"), flag::ONE_WAY)] {
        let mut client = Connection::client(Limits::default()).with_session(Settings::new());
        client.call(packet).unwrap();
        assert_eq!(client.transmit()[5], flag::SESSION | flags);
    }
    let mut client = Connection::client(Limits::default());
    client.call(streamed("m")).unwrap();
    assert_eq!(client.transmit(), request("m").bytes(), "no byte that 1.1 does not have");
}

#[test]
fn hello_comes_at_once_and_in_classic_framing() {
    let limits = Limits::default().with_max_body(1000);
    let mut server =
        Connection::server(limits).with_session(Settings::new().with_max_calls(8).with_name("a \"name\""));
    let mut client = Connection::client(limits).with_session(Settings::new());
    client.call(request("m")).unwrap();
    carry(&mut client, &mut server, 1);
    let header = Header::parse(server.transmit()).unwrap().unwrap();
    assert_eq!((header.status, header.flags), (Status::HELLO, flag::SESSION));
    assert_eq!(header.options, Codecs::available().bits());
    let body: Value = serde_json::from_slice(&server.transmit()[HEADER_LENGTH..]).unwrap();
    let expected = json!({"session": 1, "max_body": 1000, "max_calls": 8, "stream_window": 64,
        "stream_bytes": 1_048_576, "name": "a \"name\""});
    assert_eq!(body, expected);
    carry(&mut server, &mut client, 1);
    assert_eq!(client.poll_event(), Some(Event::Session));
    let peer = client.peer().unwrap();
    assert_eq!((peer.max_calls(), peer.max_body(), peer.name()), (8, 1000, Some("a \"name\"")));
    assert_eq!((server.served_calls(), client.pending_calls()), (1, 1));
}

#[test]
fn the_opening_call_may_be_answered_at_length_before_its_caller_has_spoken() {
    let limits = Limits::default().with_max_body(20 << 20);
    let text = format!("\"{}\"", "x".repeat(17 << 20));
    for (own, taken) in [(limits, true), (Limits::default(), false)] {
        let mut client = Connection::client(own).with_session(Settings::new());
        let mut server = Connection::server(limits).with_session(Settings::new());
        let id = client.call(request("open")).unwrap();
        carry(&mut client, &mut server, usize::MAX);
        assert_eq!(server.poll_event(), Some(Event::Session));
        assert_eq!(asked(&mut server), (id, "open".into()));
        server.reply(id, good(&text)).unwrap();
        carry(&mut server, &mut client, usize::MAX);
        assert_eq!(client.poll_event(), Some(Event::Session));
        match client.poll_event() {
            Some(Event::Response { .. }) if taken => {}
            Some(Event::Failed { error, .. }) if !taken => assert_eq!(error.name(), "too_large"),
            event => panic!("{event:?}"),
        }
        // The session goes on, and any other answer is bound to what the opener takes.
        let id = client.call(request("next")).unwrap();
        carry(&mut client, &mut server, usize::MAX);
        assert_eq!(asked(&mut server), (id, "next".into()));
        assert_eq!(server.reply(id, good(&text)).is_ok(), taken);
    }
}

#[test]
fn calls_go_both_ways_and_are_answered_in_any_order() {
    let mut pair = Pair::with(Settings::new(), Settings::new());
    assert_eq!(pair.acceptor.peer().unwrap().max_calls(), 128);
    let ours: Vec<_> = (0..5).map(|n| pair.opener.call(request(&format!("o{n}"))).unwrap()).collect();
    let theirs: Vec<_> = (0..5).map(|n| pair.acceptor.call(request(&format!("a{n}"))).unwrap()).collect();
    assert_eq!(ours.iter().map(|id| id.number()).collect::<Vec<_>>(), [3, 5, 7, 9, 11]);
    assert_eq!(theirs.iter().map(|id| id.number()).collect::<Vec<_>>(), [2, 4, 6, 8, 10]);
    pair.carry();
    assert_eq!((pair.opener.pending_calls(), pair.opener.served_calls()), (5, 5));
    for (n, &called) in theirs.iter().enumerate() {
        let (id, method) = asked(&mut pair.opener);
        assert_eq!((id, method), (called, format!("a{n}")));
        pair.opener.reply(id, bad("denied")).unwrap();
    }
    let mut all: Vec<_> = (0..5).map(|_| asked(&mut pair.acceptor)).collect();
    all.reverse();
    for (id, method) in &all {
        pair.acceptor.reply(*id, good(&format!("\"{method}\""))).unwrap();
        assert_eq!(pair.acceptor.reply(*id, good("1")), Err(Misuse::UnknownCall));
    }
    pair.carry();
    for (id, method) in all {
        assert_eq!(answered(&mut pair.opener), (id, Ok(format!("\"{method}\""))));
    }
    for id in theirs {
        assert_eq!(answered(&mut pair.acceptor), (id, Err("denied".into())));
    }
    pair.rest();
}

#[test]
fn any_portions_carry_a_session() {
    for size in 1..80 {
        let limits = Limits::default();
        let mut client = Connection::client(limits).with_session(Settings::new());
        let mut server = Connection::server(limits).with_session(Settings::new());
        let first = client.call(request("first")).unwrap();
        carry(&mut client, &mut server, size);
        carry(&mut server, &mut client, size);
        let second = client.call(request("second")).unwrap();
        carry(&mut client, &mut server, size);
        assert_eq!(server.poll_event(), Some(Event::Session));
        assert_eq!(asked(&mut server), (first, "first".into()));
        assert_eq!(asked(&mut server), (second, "second".into()));
        server.reply(second, good("2")).unwrap();
        server.reply(first, good("1")).unwrap();
        carry(&mut server, &mut client, size);
        assert_eq!(client.poll_event(), Some(Event::Session));
        assert_eq!(answered(&mut client), (second, Ok("2".into())));
        assert_eq!(answered(&mut client), (first, Ok("1".into())));
    }
}

#[test]
fn a_one_way_call_is_not_answered() {
    let mut pair = Pair::new();
    let id = pair.opener.call(one_way("m")).unwrap();
    assert_eq!((pair.opener.pending_calls(), pair.opener.was_sent(id)), (0, false));
    pair.carry();
    assert!(pair.opener.was_sent(id));
    let Some(Event::Request { id, request }) = pair.acceptor.poll_event() else { panic!("no request") };
    assert!(request.is_one_way() && !request.wants_items());
    assert_eq!(pair.acceptor.served_calls(), 1);
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::WrongPacket));
    pair.acceptor.reply(id, good("1")).unwrap();
    assert_eq!(pair.acceptor.reply(id, good("1")), Err(Misuse::UnknownCall));
    assert!(pair.acceptor.transmit().is_empty());
    pair.rest();
}

#[test]
fn an_offer_without_an_answer_gets_hello_alone() {
    let mut client = Connection::client(Limits::default()).with_session(Settings::new().with_max_calls(0));
    let mut server = Connection::server(Limits::default()).with_session(Settings::new());
    client.call(one_way("m")).unwrap();
    let mut pair = Pair { opener: client, acceptor: server };
    pair.carry();
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Session));
    let (id, _) = asked(&mut pair.acceptor);
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.carry();
    assert_eq!(pair.opener.poll_event(), Some(Event::Session));
    pair.rest();

    // A classic server does not know the flag and answers.
    client = Connection::client(Limits::default()).with_session(Settings::new());
    server = Connection::server(Limits::default());
    client.call(one_way("m")).unwrap();
    carry(&mut client, &mut server, 7);
    let Some(Event::Request { id, request }) = server.poll_event() else { panic!("no request") };
    assert!(!request.is_one_way());
    server.reply(id, good("1")).unwrap();
    carry(&mut server, &mut client, 7);
    assert_eq!(answered(&mut client).1, Ok("1".into()));
}

#[test]
fn without_an_offer_or_without_the_wish_everything_is_classic() {
    for (offers, accepts) in [(true, false), (false, true)] {
        let mut client = Connection::client(Limits::default());
        let mut server = Connection::server(Limits::default());
        if offers {
            client = client.with_session(Settings::new());
        }
        if accepts {
            server = server.with_session(Settings::new());
        }
        let id = client.call(streamed("m")).unwrap();
        carry(&mut client, &mut server, 5);
        let Some(Event::Request { id: served, request }) = server.poll_event() else { panic!("no request") };
        assert!(!request.wants_items());
        server.reply(served, good("1")).unwrap();
        assert_eq!(server.transmit(), good("1").bytes());
        carry(&mut server, &mut client, 5);
        assert_eq!(answered(&mut client), (id, Ok("1".into())));
        assert!(!client.is_session() && client.peer().is_none() && client.is_finished());
        assert_eq!(client.call(request_again()), Err(Misuse::NoCallPossible));
    }
}

fn request_again() -> Packet {
    request("again")
}

#[test]
fn the_old_version_has_no_sessions() {
    let old = || {
        let packet = Packet::request(Version::V1_0, Some("m"), None);
        packet.stream().finish(&Limits::default()).unwrap()
    };
    let mut client = Connection::client(Limits::default()).with_session(Settings::new());
    client.call(old()).unwrap();
    assert_eq!((client.transmit()[5], client.transmit()[6]), (0, 0));
    let mut bytes = drain(&mut client);
    bytes[5..7].fill(0xFF);
    let mut server = Connection::server(Limits::default()).with_session(Settings::new());
    server.receive(&bytes);
    let (id, _) = asked(&mut server);
    assert!(!server.is_session());
    server.reply(id, Packet::good(Version::V1_0).finish(&Limits::default()).unwrap()).unwrap();
    assert_eq!((server.transmit()[5], server.transmit()[6]), (0, 0));
}

#[test]
fn a_side_that_takes_no_calls_is_not_called() {
    let mut pair = Pair::new();
    assert_eq!(pair.acceptor.call(request("m")), Err(Misuse::PeerTakesNoCalls));
    // Nor does it take one that comes all the same.
    let call = crate::pair::wire(Status::REQUEST, 0, 2, b"{}");
    pair.opener.receive(&call.bytes());
    let answer = &said(&mut pair.opener)[0];
    assert_eq!((answer.kind, answer.id), (Status::BAD, 2));
    assert!(answer.text().contains("unknown_method"));
    assert_eq!(pair.opener.poll_event(), None);
}

#[test]
fn packets_can_be_looked_at_one_by_one_in_a_room_that_is_lent() {
    let mut pair = Pair::new();
    let ids: Vec<_> = ["a", "b", "c"].map(|method| pair.opener.call_copied(&request(method)).unwrap()).into();
    let bytes = pair.opener.transmit().to_vec();
    pair.opener.transmitted(bytes.len());
    let mut seen = Vec::new();
    // The last byte comes by itself.
    for portion in [&bytes[..bytes.len() - 1], &bytes[bytes.len() - 1..]] {
        pair.acceptor.lend_read_buffer(Vec::with_capacity(1 << 17));
        pair.acceptor.read_buffer().extend_from_slice(portion);
        pair.acceptor.appended();
        while let Some(event) = pair.acceptor.pull_event() {
            let Event::Request { id, request } = event else { panic!("{event:?}") };
            assert_eq!(pair.acceptor.served_calls(), 1, "the next one is not looked at yet");
            seen.push((id, request.method().map(str::to_string)));
            pair.acceptor.reply(id, good("1")).unwrap();
        }
        assert!(pair.acceptor.return_read_buffer().capacity() >= 1 << 17);
        assert!(pair.acceptor.held_bytes() < 200, "{} B held", pair.acceptor.held_bytes());
    }
    let methods = ["a", "b", "c"].map(|method| Some(method.to_string()));
    assert_eq!(seen, ids.iter().copied().zip(methods).collect::<Vec<_>>());
    pair.carry();
    for id in ids {
        assert_eq!(answered(&mut pair.opener), (id, Ok("1".into())));
    }
    pair.rest();
}

#[test]
fn a_copy_of_a_call_is_the_call() {
    let (mut given, mut copied) = (Pair::new(), Pair::new());
    for packet in [request("m"), streamed("m"), one_way("m")] {
        let id = copied.opener.call_copied(&packet).unwrap();
        assert_eq!(given.opener.call(packet).unwrap(), id);
        assert_eq!(copied.opener.was_sent(id), given.opener.was_sent(id));
    }
    assert_eq!(copied.opener.transmit(), given.opener.transmit());
}

#[test]
fn a_side_is_full_while_as_many_calls_are_in_flight_as_it_takes() {
    let mut pair = Pair::with(Settings::new().with_max_calls(0), Settings::new().with_max_calls(1));
    assert_eq!((pair.opener.is_full(), pair.acceptor.is_full()), (false, false));
    let id = pair.opener.call(request("a")).unwrap();
    pair.carry();
    assert_eq!(asked(&mut pair.acceptor), (id, "a".into()));
    assert_eq!((pair.opener.is_full(), pair.acceptor.is_full()), (false, true));
    pair.acceptor.reply(id, good("1")).unwrap();
    assert_eq!((pair.opener.is_full(), pair.acceptor.is_full()), (false, false));
}

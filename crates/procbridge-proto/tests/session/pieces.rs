//! Large bodies in pieces: the packets between them, and the end of bodies that are not wanted any more.

use procbridge_proto::{CallId, Connection, Event, Limits, Misuse, Settings, Status, flag};

use crate::pair::{
    Pair, Wire, answered, asked, bad, carry, failed, finish, good, item, large, one_way, request, said,
    streamed, wire,
};

const MORE: u8 = flag::MORE;

fn take(side: &mut Connection, bytes: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < bytes {
        let count = side.transmit().len().min(bytes - taken.len());
        taken.extend_from_slice(&side.transmit()[..count]);
        side.transmitted(count);
    }
    taken
}

fn kinds(packets: &[Wire]) -> Vec<(u8, u8, u32)> {
    packets.iter().map(|packet| (packet.kind.0, packet.flags, packet.id)).collect()
}

fn small_body_limit(limit: u32) -> Pair {
    let limits = Limits::default().with_max_body(limit);
    let terms = || Settings::new().with_max_calls(9);
    Pair::of(
        Connection::client(limits).with_session(terms()),
        Connection::server(limits).with_session(terms()),
    )
}

#[test]
fn a_large_body_goes_in_pieces_and_small_calls_go_between() {
    let mut pair = Pair::new();
    let big = pair.opener.call(large("big", 200_000)).unwrap();
    let size = large("big", 200_000).json_len();
    assert_eq!(pair.opener.queued(), size + 15);
    let mut bytes = take(&mut pair.opener, 100);
    let small = pair.opener.call(request("small")).unwrap();
    bytes.extend(crate::pair::drain(&mut pair.opener));
    let mut probe = Pair::new();
    probe.acceptor.receive(&bytes);
    assert_eq!(asked(&mut probe.acceptor), (small, "small".into()), "it did not wait");
    assert_eq!(asked(&mut probe.acceptor), (big, "big".into()));
    let mut pieces = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = 11 + u32::from_le_bytes(rest[7..11].try_into().unwrap()) as usize;
        pieces.push((rest[4], rest[5], rest[11], length - 15));
        rest = &rest[length..];
    }
    let tail = size - 3 * 65_536;
    let expected =
        [(0, MORE, 3, 65_536), (0, 0, 5, 18), (0, MORE, 3, 65_536), (0, MORE, 3, 65_536), (0, 0, 3, tail)];
    assert_eq!(pieces, expected);
}

#[test]
fn exactly_a_piece_is_one_packet() {
    let overhead = large("m", 0).json_len();
    for (size, packets) in [(65_536, 1), (65_537, 2), (131_072, 2), (131_073, 3)] {
        let mut pair = Pair::new();
        let packet = large("m", size - overhead);
        assert_eq!(packet.json_len(), size);
        pair.opener.call(packet).unwrap();
        assert_eq!(said(&mut pair.opener).len(), packets, "{size} bytes");
    }
}

#[test]
fn large_bodies_take_turns() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.opener.call(large("m", 150_000)).unwrap();
    }
    let packets = said(&mut pair.opener);
    let order = kinds(&packets);
    let ids: Vec<_> = order.iter().map(|&(_, _, id)| id).collect();
    // Requests begin in the order of their ids, even with an empty piece.
    assert_eq!(ids, [3, 5, 7, 5, 7, 3, 5, 7, 3, 5, 7]);
    assert!(packets[1].content.is_empty() && packets[2].content.is_empty());
    assert_eq!(order.iter().filter(|&&(_, flags, _)| flags & MORE == 0).count(), 3);
}

#[test]
fn a_small_request_does_not_overtake_the_beginning_of_a_large_one() {
    let mut pair = Pair::new();
    let ids = ["a", "b", "c", "d"].map(|method| {
        let packet = if method < "c" { large(method, 300_000) } else { request(method) };
        pair.opener.call(packet).unwrap()
    });
    pair.carry();
    let order: Vec<_> = (0..4).map(|_| asked(&mut pair.acceptor)).collect();
    let expected = [(ids[2], "c"), (ids[3], "d"), (ids[0], "a"), (ids[1], "b")];
    assert_eq!(order, expected.map(|(id, method)| (id, method.to_string())));
}

#[test]
fn a_large_body_does_not_overtake_what_its_call_said_before() {
    // Found by the model: the body before it was given up, and its turn came too early.
    let mut pair = Pair::with(Settings::new(), Settings::new());
    let id = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    let other = pair.acceptor.call(large("m", 100_000)).unwrap();
    pair.acceptor.item(id, item("1")).unwrap();
    pair.acceptor.item(id, item(&format!("\"{}\"", "x".repeat(100_000)))).unwrap();
    pair.acceptor.cancel(other);
    pair.carry();
    assert_eq!(crate::pair::came(&mut pair.opener), "1");
    assert_eq!(crate::pair::came(&mut pair.opener).len(), 100_002);
}

#[test]
fn what_belongs_to_a_large_body_waits_behind_it() {
    let mut pair = Pair::new();
    let id = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    let big = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..2 {
        pair.acceptor.item(id, item(&big)).unwrap();
        pair.acceptor.item(id, item("1")).unwrap();
    }
    pair.acceptor.reply(id, good(&big)).unwrap();
    pair.acceptor.ping();
    pair.carry();
    let sizes: Vec<_> = (0..4).map(|_| crate::pair::came(&mut pair.opener).len()).collect();
    assert_eq!(sizes, [100_002, 1, 100_002, 1]);
    assert_eq!(answered(&mut pair.opener), (id, Ok(big)));
    pair.carry();
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Pong));
    pair.rest();
}

#[test]
fn pieces_of_any_size_make_one_body() {
    let content = b"{\"method\":\"m\",\"payload\":[1,2,3]}";
    for cuts in [vec![0, 0], vec![1, 5], vec![0, 10, 10, 32], vec![32, 32], (0..32).collect()] {
        let mut pair = Pair::new();
        let mut start = cuts[0];
        pair.acceptor.receive(&wire(Status::REQUEST, MORE | 4, 3, &content[..start]).bytes());
        pair.acceptor.receive(&wire(Status::PING, 0, 0, b"").bytes());
        for &end in &cuts[1..] {
            // Only the first piece's flags count.
            pair.acceptor.receive(&wire(Status::REQUEST, MORE | 2, 3, &content[start..end]).bytes());
            start = end;
        }
        assert_eq!(pair.acceptor.served_calls(), 1);
        pair.acceptor.receive(&wire(Status::REQUEST, 2, 3, &content[start..]).bytes());
        let Some(Event::Request { id, request }) = pair.acceptor.poll_event() else { panic!("no request") };
        assert_eq!((id.number(), request.payload()), (3, Some("[1,2,3]")));
        assert!(request.wants_items() && !request.is_one_way());
    }
}

#[test]
fn a_piece_that_does_not_fit_ends_the_session() {
    let first = wire(Status::REQUEST, MORE, 3, b"{").bytes();
    let mut pair = Pair::new();
    pair.acceptor.receive(&first);
    pair.acceptor.receive(&wire(Status::REQUEST, 0x10, 3, b"}").bytes());
    let expected = if cfg!(feature = "lz4") { "unexpected_piece" } else { "unexpected_codec" };
    assert_eq!(failed(&mut pair.acceptor).name(), expected);
    for (kind, fits) in [(Status::ITEM, true), (Status::GOOD, false), (Status::BAD, false)] {
        let mut pair = Pair::new();
        let id = pair.opener.call(streamed("m")).unwrap().number();
        pair.carry();
        pair.opener.receive(&wire(Status::ITEM, MORE, id, b"{").bytes());
        pair.opener.receive(&wire(kind, 0, id, b"}").bytes());
        match pair.opener.poll_event() {
            Some(Event::Item { .. }) if fits => {}
            Some(Event::Closed { error: Some(error) }) if !fits => {
                assert_eq!(error.name(), "unexpected_piece");
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
    // Other calls' packets, and this one's credit, may stand between.
    let mut pair = Pair::with(Settings::new(), Settings::new());
    let ours = pair.opener.call(streamed("m")).unwrap().number();
    let stream = wire(Status::REQUEST, MORE | flag::STREAM, 2, b"{").bytes();
    pair.opener.receive(&stream);
    pair.opener.receive(&wire(Status::ITEM, 0, ours, b"{}").bytes());
    pair.opener.receive(&wire(Status::CREDIT, 0, 2, b"{\"items\":1}").bytes());
    pair.opener.receive(&wire(Status::REQUEST, 0, 2, b"}").bytes());
    assert!(matches!(pair.opener.poll_event(), Some(Event::Item { .. })));
    asked(&mut pair.opener);
}

#[test]
fn a_request_over_the_limit_is_answered_and_its_rest_dropped() {
    let mut pair = small_body_limit(100);
    for (flags, answers) in [(MORE, 1), (MORE | flag::ONE_WAY, 0)] {
        let id = if answers == 1 { 3 } else { 5 };
        let piece = wire(Status::REQUEST, flags, id, [b' '; 60]).bytes();
        pair.acceptor.receive(&piece);
        assert_eq!((said(&mut pair.acceptor).len(), pair.acceptor.served_calls()), (0, 1));
        pair.acceptor.receive(&piece);
        let said = said(&mut pair.acceptor);
        assert_eq!((said.len(), pair.acceptor.served_calls()), (answers, 0));
        assert!(said.iter().all(|answer| answer.kind == Status::BAD && answer.text().contains("too_large")));
        pair.acceptor.receive(&piece.repeat(10));
        pair.acceptor.receive(&wire(Status::REQUEST, 0, id, b"").bytes());
        assert_eq!(pair.acceptor.poll_event(), None);
    }
    // After its last piece the id is as used as any.
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"").bytes());
    assert_eq!(failed(&mut pair.acceptor).name(), "invalid_id");
}

#[test]
fn an_answer_over_the_limit_fails_its_call() {
    for (kind, packet) in [(Status::GOOD, request("m")), (Status::ITEM, streamed("m"))] {
        let mut pair = small_body_limit(100);
        let id = pair.opener.call(packet).unwrap();
        pair.carry();
        asked(&mut pair.acceptor);
        let piece = wire(kind, MORE, id.number(), [b' '; 60]).bytes();
        pair.opener.receive(&piece.repeat(2));
        let Some(Event::Failed { id: failed, error }) = pair.opener.poll_event() else {
            panic!("not failed")
        };
        assert_eq!((failed, error.name()), (id, "too_large"));
        pair.opener.receive(&piece.repeat(5));
        pair.opener.receive(&wire(kind, 0, id.number(), b"").bytes());
        let said = said(&mut pair.opener);
        if kind == Status::ITEM {
            assert_eq!(kinds(&said), [(Status::CANCEL.0, 0, id.number())]);
            assert_eq!(pair.opener.pending_calls(), 1);
            pair.opener.receive(&wire(Status::BAD, 0, id.number(), b"{}").bytes());
        } else {
            assert_eq!(said, []);
        }
        assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 0));
    }
}

#[test]
fn the_peers_limit_binds_the_sender() {
    let mut pair = small_body_limit(100);
    let length = large("m", 80).json_len();
    assert_eq!(pair.opener.call(large("m", 80)), Err(Misuse::TooLarge { length, limit: 100 }));
    let id = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    let wide = format!("\"{}\"", "x".repeat(100));
    assert!(matches!(pair.acceptor.item(id, item(&wide)), Err(Misuse::TooLarge { limit: 100, .. })));
    assert!(matches!(pair.acceptor.reply(id, good(&wide)), Err(Misuse::TooLarge { limit: 100, .. })));
    pair.acceptor.reply(id, bad("too_large")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (id, Err("too_large".into())));
    pair.rest();
}

#[test]
fn unfinished_requests_are_bounded_together() {
    let mut pair = Pair::new();
    let piece = |id| wire(Status::REQUEST, MORE, id, vec![b' '; 8 << 20]).bytes();
    for id in [3, 5, 7, 9] {
        pair.acceptor.receive(&piece(id));
    }
    assert_eq!((pair.acceptor.queued(), pair.acceptor.served_calls()), (0, 4));
    assert!(pair.acceptor.held_bytes() >= 32 << 20);
    pair.acceptor.receive(&piece(11));
    let said = said(&mut pair.acceptor);
    assert_eq!(kinds(&said), [(2, 0, 11)]);
    assert!(said[0].text().contains("overloaded"));
    // The others can still be ended, and so can one that is whole at once.
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"{}").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 13, b"{}").bytes());
    assert_eq!(asked(&mut pair.acceptor).0.number(), 3);
    assert_eq!(asked(&mut pair.acceptor).0.number(), 13);
}

#[test]
fn shedding_answers_the_largest_request() {
    let mut pair = Pair::new();
    assert!(!pair.acceptor.shed());
    let piece = |id, size| wire(Status::REQUEST, MORE, id, vec![b' '; size]).bytes();
    pair.acceptor.receive(&piece(3, 1000));
    pair.acceptor.receive(&piece(5, 3000));
    // A packet that has not wholly arrived counts too.
    let arriving = wire(Status::REQUEST, 0, 7, vec![b' '; 10_000]).bytes();
    pair.acceptor.receive(&arriving[..5000]);
    let mut shed = || {
        assert!(pair.acceptor.shed());
        let said = said(&mut pair.acceptor);
        assert!(said[0].text().contains("overloaded"));
        kinds(&said)
    };
    assert_eq!(shed(), [(2, 0, 7)]);
    assert_eq!(shed(), [(2, 0, 5)]);
    assert_eq!(shed(), [(2, 0, 3)]);
    assert!(!pair.acceptor.shed());
    pair.acceptor.receive(&arriving[5000..]);
    pair.acceptor.receive(&piece(3, 1000));
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 5, b"").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 9, b"{}").bytes());
    assert_eq!(asked(&mut pair.acceptor).0.number(), 9);
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 1));
}

#[test]
fn shedding_a_request_whose_last_piece_is_arriving() {
    let mut pair = Pair::new();
    pair.acceptor.receive(&wire(Status::REQUEST, MORE, 3, vec![b' '; 10_000]).bytes());
    let last = wire(Status::REQUEST, 0, 3, vec![b' '; 10_000]).bytes();
    pair.acceptor.receive(&last[..5000]);
    assert!(pair.acceptor.shed() && !pair.acceptor.shed());
    pair.acceptor.receive(&last[5000..]);
    assert_eq!((kinds(&said(&mut pair.acceptor)), pair.acceptor.poll_event()), (vec![(2, 0, 3)], None));
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"{}").bytes());
    assert_eq!(failed(&mut pair.acceptor).name(), "invalid_id");
}

#[test]
fn requests_that_never_end_are_remembered_up_to_a_bound() {
    let mut pair = small_body_limit(100);
    let piece = |id| wire(Status::REQUEST, MORE, id, [b' '; 60]).bytes().repeat(2);
    for n in 0..1024 {
        pair.acceptor.receive(&piece(3 + 2 * n));
    }
    assert_eq!((pair.acceptor.poll_event(), said(&mut pair.acceptor).len()), (None, 1024));
    // One that ends, or whose caller says that it stops, makes room.
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"").bytes());
    pair.acceptor.receive(&piece(3001));
    pair.acceptor.receive(&wire(Status::CANCEL, 0, 5, b"{}").bytes());
    pair.acceptor.receive(&piece(3003));
    assert_eq!(pair.acceptor.poll_event(), None);
    pair.acceptor.receive(&piece(3005));
    assert_eq!(failed(&mut pair.acceptor).name(), "too_many_unfinished");
}

#[test]
fn an_honest_caller_may_cancel_any_number_of_large_requests() {
    let mut pair = Pair::new();
    for n in 0..3000_u32 {
        let id = 3 + 2 * n;
        pair.acceptor.receive(&wire(Status::REQUEST, MORE, id, b"{").bytes());
        pair.acceptor.receive(&wire(Status::CANCEL, 0, id, b"{}").bytes());
        // It need not have known of the cancelling where it cut its pieces.
        pair.acceptor.receive(&wire(Status::REQUEST, MORE, id, b"}").bytes());
        assert_eq!(kinds(&said(&mut pair.acceptor)), [(2, 0, id)]);
    }
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 0));
}

#[test]
fn a_caller_that_has_its_answer_stops_sending_and_says_so() {
    let mut pair = Pair::new();
    let id = pair.opener.call(large("m", 300_000)).unwrap();
    let front = take(&mut pair.opener, 70_000);
    pair.acceptor.receive(&front);
    assert!(pair.acceptor.shed());
    carry(&mut pair.acceptor, &mut pair.opener, usize::MAX);
    assert_eq!(answered(&mut pair.opener), (id, Err("overloaded".into())));
    // The packet that was begun is ended, nothing more.
    let rest = crate::pair::drain(&mut pair.opener);
    assert_eq!(rest.len(), 2 * (65_536 + 15) - 70_000 + 15 + 2);
    pair.acceptor.receive(&rest);
    pair.rest();
}

#[test]
fn a_large_call_that_was_not_begun_is_taken_back() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..3).map(|_| pair.opener.call(large("m", 100_000)).unwrap()).collect();
    let small = pair.opener.call(request("s")).unwrap();
    for id in [ids[0], ids[2], small] {
        assert!(!pair.opener.was_sent(id));
        pair.opener.cancel(id);
        assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id }));
        pair.opener.cancel(id);
    }
    assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 1));
    assert_eq!(kinds(&said(&mut pair.opener)), [(0, MORE, 5), (0, MORE, 5), (0, 0, 5)]);
    assert!(pair.opener.was_sent(ids[1]));
}

#[test]
fn a_large_one_way_call_can_be_given_up_half_way() {
    let mut pair = Pair::new();
    let payload = format!("\"{}\"", "x".repeat(300_000));
    let packet = procbridge_proto::Packet::request(procbridge_proto::Version::V1_1, Some("m"), None);
    let id = pair.opener.call(finish(packet.one_way().json_text(&payload).unwrap())).unwrap();
    let front = take(&mut pair.opener, 10);
    pair.opener.cancel(id);
    pair.acceptor.receive(&front);
    pair.carry();
    assert_eq!((pair.opener.poll_event(), pair.acceptor.poll_event()), (None, None));
    pair.rest();
    // Written whole, it is out of reach.
    let id = pair.opener.call(one_way("m")).unwrap();
    pair.carry();
    pair.opener.cancel(id);
    assert!(pair.opener.transmit().is_empty());
    let (id, _): (CallId, _) = asked(&mut pair.acceptor);
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.rest();
}

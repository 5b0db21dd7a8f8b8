//! Streams: items, credit, and what ends them.

use procbridge_proto::{CallId, Event, Misuse, Settings, Status, flag};

use crate::pair::{Pair, answered, asked, came, failed, finish, good, item, request, said, streamed, wire};

/// Returns a stream in flight, and its call as both sides know it.
fn streaming(pair: &mut Pair) -> CallId {
    let called = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    let Some(Event::Request { id, request }) = pair.acceptor.poll_event() else { panic!("no request") };
    assert!(request.wants_items() && called == id);
    id
}

/// Returns a session whose opener takes `window` items and `bytes` bytes ahead.
fn windowed(window: u32, bytes: u32) -> Pair {
    Pair::with(
        Settings::new().with_max_calls(0).with_stream_window(window).with_stream_bytes(bytes),
        Settings::new(),
    )
}

#[test]
fn items_come_in_order_and_good_ends_them() {
    let mut pair = Pair::new();
    let id = streaming(&mut pair);
    for n in 0..10 {
        assert!(pair.acceptor.may_send_item(id));
        pair.acceptor.item(id, item(&n.to_string())).unwrap();
    }
    pair.acceptor.item(id, item("null")).unwrap();
    pair.acceptor.reply(id, good("\"end\"")).unwrap();
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::UnknownCall));
    pair.carry();
    for n in 0..10 {
        assert_eq!(came(&mut pair.opener), n.to_string());
    }
    assert_eq!(came(&mut pair.opener), "null");
    assert_eq!(answered(&mut pair.opener), (id, Ok("\"end\"".into())));
    pair.rest();
}

#[test]
fn the_window_bounds_items_and_credit_opens_it() {
    let mut pair = windowed(4, 1_000_000);
    let id = streaming(&mut pair);
    for _ in 0..4 {
        pair.acceptor.item(id, item("1")).unwrap();
    }
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::NoCredit));
    assert!(!pair.acceptor.may_send_item(id));
    pair.carry();
    for _ in 0..4 {
        came(&mut pair.opener);
    }
    let size = item("1").json_len() as u64;
    pair.opener.consumed(id, 1, size);
    assert_eq!(pair.opener.queued(), 0, "half of the window is worth a packet, less is not");
    pair.opener.consumed(id, 1, size);
    let credit = &said(&mut pair.opener)[0];
    assert_eq!((credit.kind, credit.id, credit.flags), (Status::CREDIT, id.number(), 0));
    assert_eq!(credit.text(), format!("{{\"items\":2,\"bytes\":{}}}", 2 * size));
    pair.acceptor.receive(&credit.bytes());
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Credit { id }));
    for _ in 0..2 {
        pair.acceptor.item(id, item("1")).unwrap();
    }
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::NoCredit));
    pair.acceptor.reply(id, good("null")).unwrap();
    pair.carry();
    came(&mut pair.opener);
    came(&mut pair.opener);
    let _ = answered(&mut pair.opener);
    pair.rest();
}

#[test]
fn bytes_may_be_overdrawn_by_one_item() {
    let mut pair = windowed(100, 50);
    let id = streaming(&mut pair);
    let large = format!("\"{}\"", "x".repeat(1000));
    pair.acceptor.item(id, item(&large)).unwrap();
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::NoCredit));
    pair.carry();
    let Some(Event::Item { item: got, .. }) = pair.opener.poll_event() else { panic!("no item") };
    assert_eq!(got.size(), item(&large).json_len() as u64);
    pair.opener.consumed(id, 1, got.size());
    pair.carry();
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Credit { id }));
    assert!(pair.acceptor.may_send_item(id));
    // The peer that overdraws by two is not believed.
    for _ in 0..2 {
        pair.opener.receive(&wire(Status::ITEM, 0, id.number(), format!("{{\"payload\":{large}}}")).bytes());
    }
    came(&mut pair.opener);
    assert_eq!(failed(&mut pair.opener).name(), "no_credit");
}

#[test]
fn credit_adds_saturates_and_may_be_nothing() {
    let mut pair = windowed(1, 1_000_000);
    let id = streaming(&mut pair);
    let credit = |content: &str| wire(Status::CREDIT, 0, id.number(), content).bytes();
    pair.acceptor.item(id, item("1")).unwrap();
    for content in ["{}", "{\"items\":0,\"bytes\":0}", "{\"items\":null}", "{\"bytes\":5,\"other\":[]}"] {
        pair.acceptor.receive(&credit(content));
        assert_eq!((pair.acceptor.poll_event(), pair.acceptor.may_send_item(id)), (None, false), "{content}");
    }
    for _ in 0..3 {
        pair.acceptor.receive(&credit("{\"items\":9007199254740991,\"bytes\":9007199254740991}"));
    }
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Credit { id }));
    assert_eq!(pair.acceptor.poll_event(), None, "told once");
    assert!(pair.acceptor.may_send_item(id));
}

#[test]
fn credit_for_a_call_without_items_or_one_that_ended_is_ignored() {
    let mut pair = Pair::new();
    let id = pair.opener.call(request("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    let credit = wire(Status::CREDIT, 0, id.number(), b"{\"items\":5}").bytes();
    pair.acceptor.receive(&credit);
    assert_eq!(pair.acceptor.poll_event(), None);
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::WrongPacket));
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.acceptor.receive(&credit);
    assert_eq!(pair.acceptor.poll_event(), None);
    // And the caller gives none.
    pair.opener.consumed(id, 1000, 1_000_000);
    pair.carry();
    let _ = answered(&mut pair.opener);
    pair.opener.consumed(id, 1000, 1_000_000);
    pair.rest();
}

#[test]
fn a_stream_that_is_answered_before_its_credit_event_is_seen() {
    let mut pair = windowed(1, 1000);
    let id = streaming(&mut pair);
    pair.acceptor.item(id, item("1")).unwrap();
    pair.carry();
    came(&mut pair.opener);
    pair.opener.consumed(id, 1, 13);
    pair.opener.cancel(id);
    pair.carry();
    pair.acceptor.reply(id, good("1")).unwrap();
    assert_eq!(pair.acceptor.poll_event(), None, "nothing is told of a call that has ended");
    pair.rest();
}

#[test]
fn the_windows_are_those_of_the_time_of_the_call() {
    // The opening call comes before the opener's HELLO, so it has the defaults.
    let limits = procbridge_proto::Limits::default();
    let terms = Settings::new().with_stream_window(2);
    let mut pair = Pair {
        opener: procbridge_proto::Connection::client(limits).with_session(terms),
        acceptor: procbridge_proto::Connection::server(limits)
            .with_session(Settings::new().with_stream_window(3)),
    };
    let id = pair.opener.call(streamed("open")).unwrap();
    pair.carry();
    pair.acceptor.poll_event();
    asked(&mut pair.acceptor);
    for _ in 0..64 {
        pair.acceptor.item(id, item("1")).unwrap();
    }
    assert_eq!(pair.acceptor.item(id, item("1")), Err(Misuse::NoCredit));
    let second = streaming(&mut pair);
    for _ in 0..2 {
        pair.acceptor.item(second, item("1")).unwrap();
    }
    assert_eq!(pair.acceptor.item(second, item("1")), Err(Misuse::NoCredit));
    // The acceptor's calls have the acceptor's.
    let reverse = pair.acceptor.call(streamed("m")).unwrap();
    pair.carry();
    while !matches!(pair.opener.poll_event(), Some(Event::Request { .. })) {}
    for _ in 0..3 {
        pair.opener.item(reverse, item("1")).unwrap();
    }
    assert_eq!(pair.opener.item(reverse, item("1")), Err(Misuse::NoCredit));
}

#[test]
fn an_item_that_cannot_be_read_ends_its_call_and_no_other() {
    for content in [&b"[]"[..], b"{\"payload\":", b"\xff"] {
        let mut pair = Pair::new();
        let (broken, whole) = (streaming(&mut pair), streaming(&mut pair));
        pair.opener.receive(&wire(Status::ITEM, 0, broken.number(), content).bytes());
        let Some(Event::Failed { id, .. }) = pair.opener.poll_event() else { panic!("not failed") };
        assert_eq!((id, pair.opener.pending_calls()), (broken, 2), "the peer still has to end it");
        pair.carry();
        assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id: broken }));
        pair.acceptor.item(broken, item("1")).unwrap();
        pair.acceptor.item(whole, item("2")).unwrap();
        pair.acceptor.reply(broken, good("1")).unwrap();
        pair.acceptor.reply(whole, good("2")).unwrap();
        pair.carry();
        assert_eq!(came(&mut pair.opener), "2");
        assert_eq!(answered(&mut pair.opener), (whole, Ok("2".into())));
        pair.rest();
    }
}

#[test]
fn an_answer_that_cannot_be_read_ends_its_call_and_no_other() {
    for (kind, content) in [(Status::GOOD, &b"[]"[..]), (Status::BAD, b"{\"message\":"), (Status::GOOD, b"")]
    {
        let mut pair = Pair::new();
        let (first, second) =
            (pair.opener.call(request("m")).unwrap(), pair.opener.call(request("m")).unwrap());
        pair.carry();
        asked(&mut pair.acceptor);
        asked(&mut pair.acceptor);
        pair.opener.receive(&wire(kind, 0, first.number(), content).bytes());
        let Some(Event::Failed { id, .. }) = pair.opener.poll_event() else { panic!("not failed") };
        assert_eq!((id, pair.opener.pending_calls(), pair.opener.queued()), (first, 1, 0));
        pair.acceptor.reply(first, good("0")).unwrap();
        pair.acceptor.reply(second, good("2")).unwrap();
        pair.carry();
        assert_eq!(answered(&mut pair.opener), (second, Ok("2".into())));
        pair.rest();
    }
}

#[test]
fn explicit_null_and_stream_flags_on_the_wire() {
    let mut pair = Pair::new();
    pair.opener.call(streamed("m")).unwrap();
    let call = &said(&mut pair.opener)[0];
    assert_eq!((call.kind, call.flags, call.id), (Status::REQUEST, flag::STREAM, 3));
    pair.acceptor.receive(&call.bytes());
    let (id, _) = asked(&mut pair.acceptor);
    pair.acceptor.item(id, item("null")).unwrap();
    let explicit = procbridge_proto::Packet::item().explicit_null();
    pair.acceptor.item(id, finish(explicit)).unwrap();
    let items = said(&mut pair.acceptor);
    assert_eq!((items[0].text(), items[1].text()), ("{}", "{\"payload\":null}"));
}

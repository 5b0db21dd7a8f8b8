//! Cancelling, goodbye, and the limit of calls in flight.

use procbridge_proto::{Ending, Event, Misuse, Settings, Status, flag};

use crate::pair::{
    Pair, answered, asked, bad, came, drain, good, item, one_way, request, said, streamed, wire,
};

#[test]
fn a_call_that_was_not_written_is_taken_back() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..5).map(|n| pair.opener.call(request(&n.to_string())).unwrap()).collect();
    let whole = pair.opener.queued();
    pair.opener.cancel(ids[1]);
    pair.opener.cancel(ids[3]);
    pair.opener.cancel(ids[4]);
    assert_eq!(pair.opener.queued(), whole / 5 * 2);
    for id in [ids[1], ids[3], ids[4]] {
        assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id }));
        assert!(!pair.opener.was_sent(ids[0]));
    }
    pair.opener.transmitted(0);
    let last = pair.opener.call(request("5")).unwrap();
    let sent: Vec<_> = said(&mut pair.opener).iter().map(|packet| packet.id).collect();
    assert_eq!(sent, [ids[0], ids[2], last].map(|id| id.number()));
    assert_eq!((pair.opener.pending_calls(), pair.opener.queued()), (3, 0));
    assert!(pair.opener.was_sent(ids[0]));
}

#[test]
fn a_call_whose_first_byte_was_written_is_cancelled() {
    let mut pair = Pair::new();
    let id = pair.opener.call(request("m")).unwrap();
    pair.acceptor.receive(&pair.opener.transmit()[..1]);
    pair.opener.transmitted(1);
    assert!(pair.opener.was_sent(id));
    pair.opener.cancel(id);
    pair.opener.cancel(id);
    pair.carry();
    let (id, _) = asked(&mut pair.acceptor);
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id }));
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 1));
    assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 1));
    pair.acceptor.reply(id, bad("cancelled")).unwrap();
    pair.rest();
}

#[test]
fn what_still_comes_for_a_cancelled_call_is_dropped() {
    let mut pair = Pair::new();
    let id = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    pair.acceptor.item(id, item("1")).unwrap();
    pair.carry();
    // It is there and the program has not looked yet.
    pair.opener.cancel(id);
    assert_eq!(pair.opener.poll_event(), None);
    pair.opener.consumed(id, 64, 1_000_000);
    pair.acceptor.item(id, item("2")).unwrap();
    let big = format!("\"{}\"", "x".repeat(200_000));
    pair.acceptor.item(id, item(&big)).unwrap();
    pair.carry();
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id }));
    pair.acceptor.item(id, item("3")).unwrap();
    pair.acceptor.reply(id, good(&big)).unwrap();
    pair.rest();
}

#[test]
fn cancelling_in_the_middle_of_a_large_answer() {
    for kind in [Status::ITEM, Status::GOOD] {
        let mut pair = Pair::new();
        let id = pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        asked(&mut pair.acceptor);
        pair.opener.receive(&wire(kind, flag::MORE, id.number(), b"{\"pay").bytes());
        pair.opener.cancel(id);
        for _ in 0..20 {
            pair.opener.receive(&wire(kind, flag::MORE, id.number(), vec![b'x'; 20_000]).bytes());
        }
        assert!(pair.opener.held_bytes() < 150_000, "what is dropped is not held");
        pair.opener.receive(&wire(kind, 0, id.number(), b"no JSON").bytes());
        if kind == Status::ITEM {
            assert_eq!(pair.opener.pending_calls(), 1);
            pair.opener.receive(&wire(Status::BAD, 0, id.number(), b"{}").bytes());
        }
        assert_eq!((pair.opener.pending_calls(), pair.opener.poll_event()), (0, None));
    }
}

#[test]
fn cancels_that_come_early_late_and_twice() {
    let mut pair = Pair::new();
    let cancel = |id| wire(Status::CANCEL, 0, id, b"{}").bytes();
    // Before the whole request.
    pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE, 3, b"{\"method\"").bytes());
    pair.acceptor.receive(&cancel(3));
    let answer = &said(&mut pair.acceptor)[0];
    assert!(answer.kind == Status::BAD && answer.text().contains("\"cancelled\""));
    assert_eq!(pair.acceptor.served_calls(), 0);
    pair.acceptor.receive(&cancel(3));
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b":\"m\"}").bytes());
    pair.acceptor.receive(&cancel(3));
    assert_eq!(pair.acceptor.poll_event(), None);
    // The answer of this one has no taker.
    pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE | flag::ONE_WAY, 5, b"{").bytes());
    pair.acceptor.receive(&cancel(5));
    assert_eq!((said(&mut pair.acceptor).len(), pair.acceptor.served_calls()), (0, 0));
    // While the handler is at work, with an empty body, and again.
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 7, b"{}").bytes());
    let (id, _) = asked(&mut pair.acceptor);
    pair.acceptor.receive(&wire(Status::CANCEL, 0, 7, b"").bytes());
    pair.acceptor.receive(&cancel(7));
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id }));
    assert_eq!(pair.acceptor.poll_event(), None);
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.acceptor.receive(&cancel(7));
    // A call without answer.
    pair.acceptor.receive(&wire(Status::REQUEST, flag::ONE_WAY, 9, b"{}").bytes());
    let (id, _) = asked(&mut pair.acceptor);
    pair.acceptor.receive(&cancel(9));
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id }));
    pair.acceptor.reply(id, good("1")).unwrap();
    assert_eq!(said(&mut pair.acceptor).len(), 1);
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 0));
}

#[test]
fn answer_and_cancel_may_cross() {
    let mut pair = Pair::new();
    let id = pair.opener.call(request("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.opener.cancel(id);
    pair.rest();
    // Once it has its answer there is nothing to cancel.
    let id = pair.opener.call(request("m")).unwrap();
    pair.carry();
    asked(&mut pair.acceptor);
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (id, Ok("1".into())));
    pair.opener.cancel(id);
    assert_eq!(pair.opener.queued(), 0);
}

#[test]
fn both_sides_cancel_the_other_ones_call() {
    let mut pair = Pair::with(Settings::new(), Settings::new());
    let ours = pair.opener.call(request("m")).unwrap();
    let theirs = pair.acceptor.call(request("m")).unwrap();
    pair.carry();
    pair.opener.cancel(theirs);
    pair.acceptor.cancel(ours);
    assert_eq!(pair.opener.queued() + pair.acceptor.queued(), 0, "only a caller cancels");
    pair.opener.cancel(ours);
    pair.acceptor.cancel(theirs);
    pair.carry();
    asked(&mut pair.opener);
    asked(&mut pair.acceptor);
    assert_eq!(pair.opener.poll_event(), Some(Event::Cancelled { id: theirs }));
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id: ours }));
    pair.opener.reply(theirs, bad("cancelled")).unwrap();
    pair.acceptor.reply(ours, bad("cancelled")).unwrap();
    pair.rest();
}

#[test]
fn one_call_too_many_is_overloaded() {
    let mut pair = Pair::with(Settings::new().with_max_calls(0), Settings::new().with_max_calls(2));
    let ids: Vec<_> = (0..3).map(|_| pair.opener.call(request("m")).unwrap()).collect();
    let dropped = pair.opener.call(one_way("m")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (ids[2], Err("overloaded".into())));
    let (first, _) = asked(&mut pair.acceptor);
    asked(&mut pair.acceptor);
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 2));
    pair.acceptor.reply(first, good("1")).unwrap();
    let next = pair.opener.call(one_way("m")).unwrap();
    pair.carry();
    assert_eq!(asked(&mut pair.acceptor).0, next);
    assert!(next > dropped);
    // A call without answer has a slot too, until it is done.
    pair.opener.call(request("m")).unwrap();
    pair.carry();
    answered_ok_then_overloaded(&mut pair);
    pair.acceptor.reply(next, good("1")).unwrap();
    assert_eq!(pair.acceptor.served_calls(), 1);
}

fn answered_ok_then_overloaded(pair: &mut Pair) {
    assert_eq!(answered(&mut pair.opener).1, Ok("1".into()));
    assert_eq!(answered(&mut pair.opener).1, Err("overloaded".into()));
}

#[test]
fn a_call_too_many_is_refused_from_its_first_piece() {
    let mut pair = Pair::with(Settings::new().with_max_calls(0), Settings::new().with_max_calls(1));
    pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE, 3, b"{").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE, 5, b"{").bytes());
    let answer = &said(&mut pair.acceptor)[0];
    let message = "the session has reached its limit of 1 calls in flight (max_session_calls)";
    assert!(answer.id == 5 && answer.text().contains(message), "{}", answer.text());
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 5, b"}").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"}").bytes());
    assert_eq!(asked(&mut pair.acceptor).0.number(), 3);
    assert_eq!(pair.acceptor.poll_event(), None);
}

#[test]
fn a_request_that_cannot_be_read_is_answered() {
    let cases: [(&[u8], &str); 6] = [
        (b"[]", "invalid_request"),
        (b"{\"method\":1}", "invalid_request"),
        (b"\xff", "invalid_request"),
        (b"", "invalid_request"),
        (&[b"{\"x\":", &[b'['; 128][..], &[b']'; 128], b"}"].concat(), "too_large"),
        (&[b"{\"method\":\"", &[b'm'; 257][..], b"\"}"].concat(), "too_large"),
    ];
    let mut pair = Pair::new();
    for ((content, code), id) in cases.into_iter().zip((3..).step_by(4)) {
        pair.acceptor.receive(&wire(Status::REQUEST, 0, id, content).bytes());
        pair.acceptor.receive(&wire(Status::REQUEST, flag::ONE_WAY, id + 2, content).bytes());
        let said = said(&mut pair.acceptor);
        assert_eq!((said.len(), said[0].kind, said[0].id), (1, Status::BAD, id));
        assert!(said[0].text().contains(code), "{}", said[0].text());
        assert_eq!((pair.acceptor.poll_event(), pair.acceptor.served_calls()), (None, 0));
    }
}

#[test]
fn goodbye_lets_the_calls_in_flight_end() {
    for acceptor_leaves in [true, false] {
        let mut pair = Pair::with(Settings::new(), Settings::new());
        let ours = pair.opener.call(request("m")).unwrap();
        let theirs = pair.acceptor.call(streamed("m")).unwrap();
        pair.carry();
        asked(&mut pair.opener);
        asked(&mut pair.acceptor);
        let Pair { opener, acceptor } = &mut pair;
        let (leaver, other) = if acceptor_leaves { (acceptor, opener) } else { (opener, acceptor) };
        leaver.goodbye("enough");
        leaver.goodbye("enough");
        assert_eq!(leaver.call(request("m")), Err(Misuse::GoingAway));
        let bytes = drain(leaver);
        other.receive(&bytes);
        assert_eq!(other.poll_event(), Some(Event::Goodbye { reason: "enough".into() }));
        assert_eq!(other.call(request("m")), Err(Misuse::GoingAway));
        assert_eq!((leaver.is_leaving(), other.is_leaving()), (true, true));
        assert_eq!((leaver.is_finished(), other.is_finished()), (false, false));
        assert_eq!((leaver.ending(), other.ending()), (Ending::Linger, Ending::Close));
        pair.acceptor.ping();
        pair.opener.item(theirs, item("1")).unwrap();
        pair.opener.reply(theirs, good("2")).unwrap();
        pair.acceptor.reply(ours, good("3")).unwrap();
        pair.carry();
        assert_eq!(came(&mut pair.acceptor), "1");
        assert_eq!(answered(&mut pair.acceptor), (theirs, Ok("2".into())));
        assert_eq!(pair.acceptor.poll_event(), Some(Event::Pong));
        assert_eq!(answered(&mut pair.opener), (ours, Ok("3".into())));
        pair.rest();
        assert!(pair.opener.is_finished() && pair.acceptor.is_finished());
    }
}

#[test]
fn goodbye_and_a_call_may_cross() {
    let mut pair = Pair::new();
    let kept = pair.opener.call(request("kept")).unwrap();
    pair.carry();
    let lost = pair.opener.call(request("lost")).unwrap();
    let crossing = drain(&mut pair.opener);
    pair.acceptor.goodbye("");
    let unsent = pair.opener.call(request("unsent")).unwrap();
    let silent = pair.opener.call(one_way("unsent")).unwrap();
    let cancelled = pair.opener.call(request("cancelled")).unwrap();
    pair.opener.cancel(cancelled);
    assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id: cancelled }));
    pair.opener.receive(&drain(&mut pair.acceptor));
    assert_eq!(pair.opener.poll_event(), Some(Event::Goodbye { reason: String::new() }));
    for id in [lost, unsent, silent] {
        assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id }));
    }
    assert_eq!((pair.opener.poll_event(), pair.opener.queued(), pair.opener.pending_calls()), (None, 0, 1));
    // The acceptor drops what crossed, all that belongs to it included.
    pair.acceptor.receive(&crossing);
    let late = lost.number();
    pair.acceptor.receive(&wire(Status::CANCEL, 0, late, b"{}").bytes());
    pair.acceptor.receive(&wire(Status::CREDIT, 0, late, b"{}").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE, late + 2, b"{").bytes());
    pair.acceptor.receive(&wire(Status::REQUEST, 0, late + 2, b"}").bytes());
    assert_eq!(asked(&mut pair.acceptor), (kept, "kept".into()));
    assert_eq!((pair.acceptor.poll_event(), pair.acceptor.queued()), (None, 0));
    pair.acceptor.reply(kept, good("1")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (kept, Ok("1".into())));
    assert!(pair.opener.is_finished() && pair.acceptor.is_finished());
    // Used ids stay used.
    pair.acceptor.receive(&wire(Status::REQUEST, 0, late + 2, b"{}").bytes());
    assert_eq!(crate::pair::failed(&mut pair.acceptor).name(), "invalid_id");
}

#[test]
fn both_say_goodbye_at_once() {
    let mut pair = Pair::with(Settings::new(), Settings::new());
    pair.opener.goodbye("a");
    pair.acceptor.goodbye("b");
    pair.carry();
    assert_eq!(pair.opener.poll_event(), Some(Event::Goodbye { reason: "b".into() }));
    assert_eq!(pair.acceptor.poll_event(), Some(Event::Goodbye { reason: "a".into() }));
    assert!(pair.opener.is_finished() && pair.acceptor.is_finished());
    assert_eq!((pair.opener.ending(), pair.acceptor.ending()), (Ending::Close, Ending::Close));
}

#[test]
fn a_second_goodbye_lowers_and_never_raises() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..4).map(|_| pair.opener.call(request("m")).unwrap()).collect();
    pair.carry();
    let goodbye = |content: String| wire(Status::GOODBYE, 0, 0, content).bytes();
    pair.opener.receive(&goodbye("{\"reason\":7}".into()));
    assert_eq!(pair.opener.poll_event(), Some(Event::Goodbye { reason: String::new() }));
    assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 4));
    pair.opener.receive(&goodbye(format!("{{\"last_id\":{}}}", ids[2].number())));
    assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id: ids[3] }));
    pair.opener.receive(&goodbye("{\"last_id\":4294967295}".into()));
    pair.opener.receive(&goodbye("{\"last_id\":null}".into()));
    assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 3));
    // An id of the other side will do.
    pair.opener.receive(&goodbye(format!("{{\"last_id\":{}}}", ids[0].number() + 1)));
    for &id in &ids[1..3] {
        assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id }));
    }
    // Packets that come for them are late, not wrong.
    pair.opener.receive(&wire(Status::GOOD, 0, ids[3].number(), b"{}").bytes());
    assert_eq!((pair.opener.poll_event(), pair.opener.pending_calls()), (None, 1));
}

#[test]
fn goodbye_of_a_quiet_session_finishes_it() {
    let mut pair = Pair::new();
    assert!(!pair.opener.is_finished());
    pair.opener.goodbye(&"é".repeat(2000));
    assert!(!pair.opener.is_finished(), "it is still to be written");
    let packet = &said(&mut pair.opener)[0];
    assert!(packet.text().starts_with("{\"last_id\":0,\"reason\":\"é") && packet.content.len() < 1100);
    assert!(pair.opener.is_finished());
    pair.acceptor.receive(&packet.bytes());
    assert!(pair.acceptor.is_finished());
}

#[test]
fn a_session_that_is_over_takes_back_what_was_not_written() {
    for orderly in [true, false] {
        let mut pair = Pair::new();
        let sent = pair.opener.call(request("sent")).unwrap();
        let begun = pair.opener.call(crate::pair::large("begun", 200_000)).unwrap();
        // The small one, and of the large one the empty piece that keeps its place.
        let count = pair.opener.transmit().len();
        pair.opener.transmitted(count);
        let whole = pair.opener.call(crate::pair::large("whole", 200_000)).unwrap();
        let small = pair.opener.call(request("small")).unwrap();
        if orderly {
            pair.opener.receive_end();
        } else {
            pair.opener.receive(b"what");
        }
        for id in [whole, small] {
            assert_eq!(pair.opener.poll_event(), Some(Event::NotRun { id }));
        }
        assert!(
            matches!(pair.opener.poll_event(), Some(Event::Closed { error }) if error.is_none() == orderly)
        );
        assert!(pair.opener.was_sent(sent) && pair.opener.was_sent(begun));
        let said = drain(&mut pair.opener);
        let text = String::from_utf8_lossy(&said);
        assert!(!text.contains("small") && !text.contains("whole"), "{text}");
    }
}

//! Requests that are handed out as they arrived, and what a session keeps of a peer's text.

use procbridge_proto::{
    Codec, Codecs, Connection, Event, Limits, Misuse, Status, Terms, UnreadRequest, flag,
};

use crate::pair::{Pair, answered, good, large, request, said, wire};

/// A session whose acceptor leaves requests unread, and takes `calls` at a time.
fn lazy(calls: u32) -> Pair {
    let limits = Limits::default().with_requests_unread();
    let opener = Connection::client(Limits::default()).with_session(Terms::new().with_max_calls(0));
    Pair::of(opener, Connection::server(limits).with_session(Terms::new().with_max_calls(calls)))
}

fn unread(side: &mut Connection) -> (procbridge_proto::CallId, UnreadRequest) {
    match side.poll_event() {
        Some(Event::Unread { id, request }) => (id, request),
        other => panic!("no unread request but {other:?}"),
    }
}

#[test]
fn large_and_compressed_requests_come_unread_and_small_ones_do_not() {
    let mut pair = lazy(8);
    let id = pair.opener.call(large("m", 2 << 20)).unwrap();
    pair.opener.call(request("small")).unwrap();
    pair.carry();
    assert!(matches!(pair.acceptor.poll_event(), Some(Event::Request { .. })), "small ones go between");
    let (unread_id, request) = unread(&mut pair.acceptor);
    assert_eq!((unread_id, request.codec(), request.is_one_way()), (id, None, false));
    assert_eq!(request.size(), request.arrived());
    let request = request.read().unwrap();
    assert_eq!((request.method(), request.payload().map(str::len)), (Some("m"), Some((2 << 20) + 2)));
    pair.acceptor.reply(id, good("1")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (id, Ok("1".into())));
}

#[test]
fn the_size_of_a_compressed_request_is_known_before_it_is_inflated() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        if !Codecs::available().contains(codec) {
            continue;
        }
        let mut pair = lazy(8);
        let packet = large("m", 8 << 20).compressed(codec);
        let json = packet.json_len();
        pair.opener.call(packet).unwrap();
        pair.carry();
        let (_, request) = unread(&mut pair.acceptor);
        assert_eq!((request.codec(), request.size()), (Some(codec), json));
        assert!(request.arrived() < 100_000, "{} B", request.arrived());
        assert_eq!(request.read().unwrap().size(), json);
    }
}

#[test]
fn a_request_beyond_the_limit_of_calls_is_refused_unread() {
    let mut pair = lazy(1);
    pair.opener.call(request("first")).unwrap();
    let second = pair.opener.call(large("second", 2 << 20)).unwrap();
    pair.carry();
    assert!(matches!(pair.acceptor.poll_event(), Some(Event::Request { .. })));
    assert_eq!(pair.acceptor.poll_event(), None);
    let (id, answer) = answered(&mut pair.opener);
    assert_eq!((id, answer), (second, Err("overloaded".into())));
}

#[test]
fn what_cannot_be_read_is_answered_and_the_session_goes_on() {
    let mut pair = lazy(8);
    let text = [&b"{\"method\":"[..], &vec![b' '; 2 << 20], b"1,}"].concat();
    for piece in text.chunks(60_000) {
        pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE, 3, piece).bytes());
    }
    pair.acceptor.receive(&wire(Status::REQUEST, 0, 3, b"").bytes());
    let (id, request) = unread(&mut pair.acceptor);
    let error = request.read().unwrap_err();
    assert_eq!(error.name(), "invalid_json");
    let answer = error.answer().unwrap();
    pair.acceptor.decline(id, answer.code, &answer.message);
    let said = said(&mut pair.acceptor);
    assert_eq!((said.len(), said[0].kind), (1, Status::BAD));
    assert!(said[0].text().contains("invalid_request"), "{}", said[0].text());
    assert_eq!(pair.acceptor.serving(), 0);
}

/// A caller of whom nothing fits has its answer all the same (fault H12).
#[test]
fn a_call_is_declined_whatever_little_its_caller_takes() {
    for most in [0, 2, 60, 1000] {
        let mut pair = Pair::new();
        let hello = format!("{{\"session\":1,\"max_body\":{most}}}");
        pair.acceptor.receive(&wire(Status::HELLO, 0, 0, hello).bytes());
        let id = pair.opener.call(request("m")).unwrap();
        pair.carry();
        assert!(matches!(pair.acceptor.poll_event(), Some(Event::Request { .. })));
        let long = format!("\"{}\"", "x".repeat(2000));
        assert!(matches!(pair.acceptor.reply(id, good(&long)), Err(Misuse::TooLarge { .. })));
        pair.acceptor.decline(id, "too_large", "the result is larger than the caller takes");
        pair.acceptor.decline(id, "too_large", "again");
        let said = said(&mut pair.acceptor);
        assert_eq!((said.len(), said[0].kind, pair.acceptor.serving()), (1, Status::BAD, 0));
        assert!(said[0].content.len() <= most.max(2), "{}", said[0].text());
    }
}

/// A session keeps a name for as long as it lasts (fault H8).
#[test]
fn long_names_and_reasons_are_cut() {
    let mut pair = Pair::new();
    let name = format!("a{}", "\u{e9}".repeat(20_000));
    let hello = format!("{{\"session\":1,\"name\":\"{name}\"}}");
    pair.acceptor.receive(&wire(Status::HELLO, 0, 0, hello).bytes());
    let kept = pair.acceptor.peer().unwrap().name().unwrap();
    assert!(name.starts_with(kept) && kept.len() == 255, "{} B", kept.len());
    assert_eq!(Terms::new().with_name(&name).name().map(str::len), Some(255));

    let goodbye = format!("{{\"reason\":\"{name}\"}}");
    pair.acceptor.receive(&wire(Status::GOODBYE, 0, 0, goodbye).bytes());
    let Some(Event::Goodbye { reason }) = pair.acceptor.poll_event() else { panic!("no goodbye") };
    assert_eq!(reason.len(), 1023);
}

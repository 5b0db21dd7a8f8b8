//! Requests, answers and items that are handed out as they arrived, and what a session keeps of a peer's text.

use procbridge_proto::{
    CallId, Codec, Codecs, Connection, Event, Limits, Misuse, Settings, Status, UnreadItem, UnreadRequest,
    UnreadResponse, flag,
};

use crate::compression::bits;
use crate::pair::{Pair, answered, good, item, large, request, said, streamed, wire};

/// Returns a session whose acceptor leaves requests unread, and takes `calls` at a time.
fn lazy(calls: u32) -> Pair {
    let limits = Limits::default().with_requests_unread();
    let opener = Connection::client(Limits::default()).with_session(Settings::new().with_max_calls(0));
    Pair::of(opener, Connection::server(limits).with_session(Settings::new().with_max_calls(calls)))
}

fn unread(side: &mut Connection) -> (CallId, UnreadRequest) {
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
    assert_eq!(pair.acceptor.served_calls(), 0);
}

/// Returns a session whose opener leaves answers unread, and gives `bytes` of credit.
fn patient(bytes: u32) -> Pair {
    let limits = Limits::default().with_answers_unread();
    let terms = Settings::new().with_max_calls(0).with_stream_bytes(bytes);
    Pair::of(
        Connection::client(limits).with_session(terms),
        Connection::server(Limits::default()).with_session(Settings::new()),
    )
}

fn unread_answer(side: &mut Connection) -> (CallId, UnreadResponse) {
    match side.poll_event() {
        Some(Event::UnreadResponse { id, response }) => (id, response),
        other => panic!("no unread answer but {other:?}"),
    }
}

fn unread_item(side: &mut Connection) -> (CallId, UnreadItem) {
    match side.poll_event() {
        Some(Event::UnreadItem { id, item }) => (id, item),
        other => panic!("no unread item but {other:?}"),
    }
}

fn text(size: usize) -> String {
    format!("\"{}\"", "x".repeat(size))
}

fn codecs() -> impl Iterator<Item = Codec> {
    [Codec::Lz4, Codec::Zstd].into_iter().filter(|&codec| Codecs::available().contains(codec))
}

#[test]
fn large_and_compressed_answers_come_unread_and_small_ones_do_not() {
    let mut pair = patient(1 << 20);
    let ids = [(); 3].map(|()| pair.opener.call(request("m")).unwrap());
    pair.carry();
    while pair.acceptor.poll_event().is_some() {}
    pair.acceptor.reply(ids[0], good(&text(2 << 20))).unwrap();
    pair.acceptor.reply(ids[1], good("1")).unwrap();
    pair.carry();
    assert_eq!(answered(&mut pair.opener), (ids[1], Ok("1".into())));
    let (id, answer) = unread_answer(&mut pair.opener);
    assert_eq!((id, answer.codec(), answer.size()), (ids[0], None, answer.arrived()));
    assert_eq!(pair.opener.pending_calls(), 1, "its call has ended");
    let read = answer.read().unwrap();
    assert_eq!(read.good().unwrap().payload().map(str::len), Some((2 << 20) + 2));
    for codec in codecs() {
        let mut pair = patient(1 << 20);
        let id = pair.opener.call(request("m")).unwrap();
        pair.carry();
        while pair.acceptor.poll_event().is_some() {}
        let packet = good(&text(2000)).compressed(codec);
        let json = packet.json_len();
        pair.acceptor.reply(id, packet).unwrap();
        pair.carry();
        let (_, answer) = unread_answer(&mut pair.opener);
        assert_eq!((answer.codec(), answer.size()), (Some(codec), json));
        assert_eq!(answer.read().unwrap().good().unwrap().payload(), Some(&*text(2000)));
        pair.rest();
    }
}

#[test]
fn an_answer_that_is_left_unread_is_checked_as_much_as_is_asked_for() {
    let limits = Limits::default().with_answers_unread().with_results_unchecked();
    let opener = Connection::client(limits).with_session(Settings::new().with_max_calls(0));
    let mut pair = Pair::of(opener, Connection::server(Limits::default()).with_session(Settings::new()));
    let id = pair.opener.call(request("m")).unwrap();
    let broken = [&b"{\"payload\":["[..], &vec![b' '; 2 << 20], b"1,]}"].concat();
    for piece in broken.chunks(60_000) {
        pair.opener.receive(&wire(Status::GOOD, flag::MORE, id.number(), piece).bytes());
    }
    pair.opener.receive(&wire(Status::GOOD, 0, id.number(), b"").bytes());
    let (_, answer) = unread_answer(&mut pair.opener);
    assert!(answer.clone().read().unwrap().good().unwrap().check().is_err());
    assert_eq!(answer.read_checked().unwrap_err().name(), "invalid_json");
}

#[test]
fn an_unread_item_costs_what_it_will_be() {
    for codec in codecs() {
        let mut pair = patient(10_000);
        let id = pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        while pair.acceptor.poll_event().is_some() {}
        let packet = || item(&text(6000)).compressed(codec);
        let json = packet().json_len() as u64;
        for _ in 0..2 {
            pair.acceptor.item(id, packet()).unwrap();
        }
        pair.carry();
        let (_, first) = unread_item(&mut pair.opener);
        assert_eq!(first.charged(), json);
        assert_eq!(first.read().unwrap().size(), json);
        // A third one is more than the peer may send.
        pair.opener.receive(&wire(Status::ITEM, 0, id.number(), b"{}").bytes());
        assert!(matches!(pair.opener.poll_event(), Some(Event::UnreadItem { .. })));
        assert_eq!(crate::pair::failed(&mut pair.opener).name(), "no_credit");
    }
}

/// A frame that does not say how much is in it costs the rest once that is known.
#[cfg(feature = "zstd")]
#[test]
fn an_item_of_unknown_size_is_charged_when_it_is_read() {
    const RAW: u32 = 0;
    const REPEATED: u32 = 1;
    const LAST: u32 = 1;
    let block = |kind: u32, size: u32, last: u32| (size << 3 | kind << 1 | last).to_le_bytes()[..3].to_vec();
    // Magic, descriptor and window, and blocks of which one stands for many spaces.
    let frame = [
        &0xFD2F_B528_u32.to_le_bytes()[..],
        &[0, 0x38],
        &block(RAW, 12, 0),
        b"{\"payload\":1",
        &block(REPEATED, 12_000, 0),
        b" ",
        &block(RAW, 1, LAST),
        b"}",
    ]
    .concat();
    let mut pair = patient(10_000);
    let id = pair.opener.call(streamed("m")).unwrap();
    pair.carry();
    let compressed = wire(Status::ITEM, bits(Codec::Zstd), id.number(), &frame).bytes();
    pair.opener.receive(&compressed);
    let (_, first) = unread_item(&mut pair.opener);
    let charged = first.charged();
    assert_eq!(charged, frame.len() as u64);
    let first = first.read().unwrap();
    assert_eq!((first.payload(), first.size()), (Some("1"), 12_013));
    pair.opener.receive(&compressed);
    assert_eq!(unread_item(&mut pair.opener).1.charged(), charged, "there is credit until the first is read");
    pair.opener.charge(id, first.size() - charged);
    pair.opener.receive(&compressed);
    assert_eq!(crate::pair::failed(&mut pair.opener).name(), "no_credit");
}

#[test]
fn an_unread_item_that_cannot_be_read_ends_its_call_and_no_other() {
    for codec in codecs() {
        let mut pair = patient(1 << 20);
        let [broken, whole] = [(); 2].map(|()| pair.opener.call(streamed("m")).unwrap());
        pair.carry();
        while pair.acceptor.poll_event().is_some() {}
        let content = b"\x05\0\0\0no block, no frame";
        pair.opener.receive(&wire(Status::ITEM, bits(codec), broken.number(), content).bytes());
        let (id, item) = unread_item(&mut pair.opener);
        assert_eq!((id, item.read().unwrap_err().name()), (broken, "invalid_compression"));
        pair.opener.cancel(broken);
        pair.carry();
        assert_eq!(pair.acceptor.poll_event(), Some(Event::Cancelled { id: broken }));
        pair.acceptor.reply(broken, good("1")).unwrap();
        pair.acceptor.reply(whole, good("2")).unwrap();
        pair.carry();
        assert_eq!(answered(&mut pair.opener), (whole, Ok("2".into())));
        pair.rest();
    }
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
        assert_eq!((said.len(), said[0].kind, pair.acceptor.served_calls()), (1, Status::BAD, 0));
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
    assert_eq!(Settings::new().with_name(&name).name().map(str::len), Some(255));

    let goodbye = format!("{{\"reason\":\"{name}\"}}");
    pair.acceptor.receive(&wire(Status::GOODBYE, 0, 0, goodbye).bytes());
    let Some(Event::Goodbye { reason }) = pair.acceptor.poll_event() else { panic!("no goodbye") };
    assert_eq!(reason.len(), 1023);
}

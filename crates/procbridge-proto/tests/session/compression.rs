//! Compressed bodies in a session. Which of the tests run depends on the features of the build.

use procbridge_proto::{Codec, Codecs, Event, Misuse, Packet, Settings, Status, Version, flag};

use crate::pair::{Pair, answered, asked, came, finish, good, item, large, said, streamed, wire};

fn codecs() -> impl Iterator<Item = Codec> {
    [Codec::Lz4, Codec::Zstd].into_iter().filter(|&codec| Codecs::available().contains(codec))
}

pub(crate) fn bits(codec: Codec) -> u8 {
    if codec == Codec::Lz4 { 0x10 } else { 0x20 }
}

fn payload(size: usize) -> String {
    format!("\"{}\"", "x".repeat(size))
}

/// Returns a body that stays large, compressed or not.
fn noise(size: usize) -> String {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'!' + 2 + ((seed >> 40) % 56) as u8)
    };
    format!("\"{}\"", (0..size).map(|_| next()).collect::<String>())
}

#[test]
fn bodies_are_compressed_as_a_whole_and_come_out_as_they_were() {
    for codec in codecs() {
        for text in [payload(2000), payload(1_000_000), format!("[{},{}]", noise(200_000), payload(50_000))] {
            let mut pair = Pair::new();
            let request = Packet::request(Version::V1_1, Some("m"), None).stream().json_text(&text).unwrap();
            let packet = finish(request).compressed(codec);
            let json_len = "{'method':'m','payload':}".len() + text.len();
            assert_eq!((packet.codec(), packet.json_len()), (Some(codec), json_len));
            let id = pair.opener.call(packet).unwrap();
            let packets = said(&mut pair.opener);
            assert!(packets.iter().all(|packet| packet.flags & 0x30 == bits(codec)));
            for packet in packets {
                pair.acceptor.receive(&packet.bytes());
            }
            let Some(Event::Request { request, .. }) = pair.acceptor.poll_event() else {
                panic!("no request")
            };
            assert_eq!((request.payload(), request.codec()), (Some(&*text), Some(codec)));
            pair.acceptor.item(id, item(&text).compressed(codec)).unwrap();
            pair.acceptor.reply(id, good(&text).compressed(codec)).unwrap();
            pair.carry();
            assert_eq!(came(&mut pair.opener), text);
            assert_eq!(answered(&mut pair.opener), (id, Ok(text)));
            pair.rest();
        }
    }
}

#[test]
fn compressed_and_not_may_take_turns() {
    for codec in codecs() {
        let mut pair = Pair::new();
        for n in 0..6 {
            let packet = large("m", 5000 + n);
            let packet = if n % 2 == 0 { packet.compressed(codec) } else { packet };
            pair.opener.call(packet).unwrap();
        }
        pair.carry();
        for n in 0..6 {
            let Some(Event::Request { request, .. }) = pair.acceptor.poll_event() else {
                panic!("no request")
            };
            assert_eq!(request.codec(), (n % 2 == 0).then_some(codec));
            assert_eq!(request.payload(), Some(&*payload(5000 + n)));
        }
    }
}

#[test]
fn what_is_not_worth_it_or_not_allowed_stays_as_it_is() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let same = |packet: Packet| assert_eq!(packet.clone().compressed(codec), packet);
        let overhead = large("m", 0).json_len();
        same(large("m", 1023 - overhead));
        let changes = large("m", 1024 - overhead).compressed(codec).codec().is_some();
        assert_eq!(changes, Codecs::available().contains(codec));
        let envelope = procbridge_proto::Envelope { token: Some("secret"), ..Default::default() };
        let request = Packet::request_with(Version::V1_1, Some("m"), &envelope).unwrap();
        same(finish(request.json_text(&payload(5000)).unwrap()));
        let object = format!("{{\"x\":{}}}", payload(5000));
        same(finish(Packet::request(Version::V1_0, Some("m"), None).json_text(&object).unwrap()));
        let once = large("m", 5000).compressed(codec);
        assert_eq!(once.clone().compressed(codec), once);
        // Nothing to be saved.
        let digits: String = noise(1100).chars().rev().collect();
        let packet = finish(Packet::good(Version::V1_1).json_text(&digits).unwrap());
        assert!(packet.clone().compressed(codec).bytes().len() <= packet.bytes().len());
    }
}

#[test]
fn only_what_the_peer_can_read_is_sent() {
    for codec in codecs() {
        let none = || Settings::new().with_codecs(Codecs::NONE);
        let mut pair = Pair::with(none().with_max_calls(0), none());
        let packet = || large("m", 5000).compressed(codec);
        assert_eq!(pair.opener.call(packet()), Err(Misuse::WrongPacket));
        let id = pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        asked(&mut pair.acceptor);
        let text = payload(5000);
        assert_eq!(pair.acceptor.item(id, item(&text).compressed(codec)), Err(Misuse::WrongPacket));
        assert_eq!(pair.acceptor.reply(id, good(&text).compressed(codec)), Err(Misuse::WrongPacket));
        // Nor is anything compressed outside a session.
        let mut client = procbridge_proto::Connection::client(procbridge_proto::Limits::default())
            .with_session(Settings::new());
        assert_eq!(client.call(packet()), Err(Misuse::WrongPacket));
    }
}

#[test]
fn credit_counts_what_comes_out() {
    for codec in codecs() {
        let mut pair =
            Pair::with(Settings::new().with_max_calls(0).with_stream_bytes(10_000), Settings::new());
        let id = pair.opener.call(streamed("m")).unwrap();
        pair.carry();
        asked(&mut pair.acceptor);
        let packet = || item(&payload(6000)).compressed(codec);
        assert!(packet().bytes().len() < 500);
        pair.acceptor.item(id, packet()).unwrap();
        pair.acceptor.item(id, packet()).unwrap();
        assert_eq!(pair.acceptor.item(id, packet()), Err(Misuse::NoCredit));
        pair.carry();
        let Some(Event::Item { item, .. }) = pair.opener.poll_event() else { panic!("no item") };
        assert_eq!(item.size(), packet().json_len() as u64);
    }
}

#[test]
fn bombs_and_broken_bytes_cost_their_call_only() {
    for codec in codecs() {
        // Four packets that hold more than the limit of 16 MiB, of which no more than that is ever there.
        let bomb = large("m", 17 << 20).compressed(codec).bytes()[11..].to_vec();
        let mut cases = vec![(bomb, "too_large")];
        let mut broken = large("m", 5000).compressed(codec).bytes()[11..].to_vec();
        broken.truncate(broken.len() - 1);
        cases.push((broken, "invalid_request"));
        cases.push((Vec::new(), "invalid_request"));
        cases.push((b"\x05\0\0\0no block, no frame".to_vec(), "invalid_request"));
        let mut pair = Pair::new();
        let ids: Vec<_> = cases.iter().map(|_| pair.opener.call(streamed("m")).unwrap()).collect();
        let items: Vec<_> = cases.iter().map(|_| pair.opener.call(streamed("m")).unwrap()).collect();
        pair.carry();
        while pair.acceptor.poll_event().is_some() {}
        for (n, (bytes, code)) in cases.iter().enumerate() {
            let id = 101 + 2 * u32::try_from(n).unwrap();
            pair.acceptor.receive(&wire(Status::REQUEST, bits(codec), id, bytes).bytes());
            let answer = &said(&mut pair.acceptor)[0];
            assert!(answer.id == id && answer.text().contains(code), "{codec:?} {n}: {}", answer.text());
            for (kind, ids) in [(Status::GOOD, &ids), (Status::ITEM, &items)] {
                pair.opener.receive(&wire(kind, bits(codec), ids[n].number(), bytes).bytes());
                let Some(Event::Failed { id, error }) = pair.opener.poll_event() else {
                    panic!("not failed")
                };
                let name = if *code == "too_large" { "too_large" } else { "invalid_compression" };
                assert_eq!((id, error.name()), (ids[n], name), "{codec:?} {n}");
            }
        }
        assert_eq!((pair.acceptor.poll_event(), pair.opener.poll_event()), (None, None));
    }
}

#[test]
fn pieces_of_a_compressed_body_have_its_bits() {
    for codec in codecs() {
        let bytes = large("m", 5000).compressed(codec).bytes()[11..].to_vec();
        let (front, back) = bytes.split_at(10);
        let mut pair = Pair::new();
        pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE | bits(codec), 3, front).bytes());
        pair.acceptor.receive(&wire(Status::REQUEST, bits(codec), 3, back).bytes());
        let Some(Event::Request { request, .. }) = pair.acceptor.poll_event() else { panic!("no request") };
        assert_eq!(request.payload(), Some(&*payload(5000)));
        pair.acceptor.receive(&wire(Status::REQUEST, flag::MORE | bits(codec), 5, front).bytes());
        pair.acceptor.receive(&wire(Status::REQUEST, 0, 5, back).bytes());
        assert_eq!(crate::pair::failed(&mut pair.acceptor).name(), "unexpected_piece");
    }
}

#[test]
fn many_that_are_small_compressed_are_not_all_held_at_once() {
    for codec in codecs() {
        let packet = large("m", 8 << 20).compressed(codec).bytes()[11..].to_vec();
        let mut pair = Pair::new();
        let mut bytes = Vec::new();
        for id in (3..43).step_by(2) {
            bytes.extend(wire(Status::REQUEST, bits(codec), id, &packet).bytes());
        }
        pair.acceptor.receive(&bytes);
        let mut held = 0;
        while let Some(event) = pair.acceptor.poll_event() {
            let Event::Request { request, .. } = event else { continue };
            held += request.size();
        }
        assert!((32 << 20..=48 << 20).contains(&held), "{codec:?}: {held}");
        let refused = said(&mut pair.acceptor);
        assert_eq!(refused.len(), 20 - held / (8 << 20), "{codec:?}");
        assert!(refused.iter().all(|answer| answer.text().contains("overloaded")));
        // A body that was taken makes room again.
        pair.acceptor.receive(&wire(Status::REQUEST, bits(codec), 101, &packet).bytes());
        assert!(matches!(pair.acceptor.poll_event(), Some(Event::Request { .. })));
    }
}

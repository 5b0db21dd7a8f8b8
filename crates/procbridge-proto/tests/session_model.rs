//! Random work on both ends of a session against a simple model of it. Every call ends exactly once, in a way that
//! fits what both sides did. Everything arrives intact and in order, however the bytes are cut.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

#[path = "session_model/world.rs"]
mod world;

use procbridge_proto::{Codec, Connection, Event, Header, Limits, Packet, Settings, Status, Version};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, sample};

use crate::world::{Body, Sort, Step, World, text};

fn body() -> impl Strategy<Value = Body> {
    let size = prop_oneof![12 => 0..60_usize, 4 => 900..6000_usize, 1 => 65_000..66_000_usize, 1 => 70_000..250_000_usize];
    let codec = sample::select(vec![None, None, Some(Codec::Lz4), Some(Codec::Zstd)]);
    (size, codec).prop_map(|(size, codec)| Body { size, codec })
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2_usize;
    let sort = sample::select(vec![Sort::Plain, Sort::Streamed, Sort::Streamed, Sort::OneWay]);
    let pick = any::<usize>();
    let bytes = prop_oneof![1..40_usize, 100..5000_usize, Just(65_551), Just(usize::MAX)];
    prop_oneof![
        10 => (side.clone(), sort, body()).prop_map(|(side, sort, body)| Step::Call { side, sort, body }),
        8 => (side.clone(), pick, any::<bool>(), body())
            .prop_map(|(side, pick, good, body)| Step::Reply { side, pick, good, body }),
        10 => (side.clone(), pick, body()).prop_map(|(side, pick, body)| Step::Item { side, pick, body }),
        5 => (side.clone(), pick).prop_map(|(side, pick)| Step::Consume { side, pick }),
        4 => (side.clone(), pick).prop_map(|(side, pick)| Step::Cancel { side, pick }),
        1 => side.clone().prop_map(|side| Step::Ping { side }),
        1 => side.clone().prop_map(|side| Step::Shed { side }),
        30 => (side, bytes).prop_map(|(side, bytes)| Step::Carry { side, bytes }),
    ]
}

fn terms() -> impl Strategy<Value = Settings> {
    (sample::select(vec![1_u32, 3, 128]), 1..8_u32, sample::select(vec![1_u32, 3000, 1_000_000])).prop_map(
        |(calls, window, bytes)| {
            Settings::new().with_max_calls(calls).with_stream_window(window).with_stream_bytes(bytes)
        },
    )
}

/// Returns a packet that is right or nearly so.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0..10_u8, any::<u8>()];
    let flags =
        prop_oneof![3 => Just(0_u8), 1 => sample::select(vec![2_u8, 4, 8, 12, 0x10, 0x20]), 1 => any::<u8>()];
    let id = prop_oneof![0..12_u32, any::<u32>()];
    let content = prop_oneof![
        sample::select(vec![
            "",
            "{}",
            "{\"session\":1}",
            "{\"items\":5,\"bytes\":500}",
            "{\"last_id\":3}",
            "{\"last_id\":-1}",
            "{\"method\":\"m\",\"payload\":[1]}",
            "{\"method\":",
            "\"m\"}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..40),
        (1000..9000_usize).prop_map(|size| format!("{{\"payload\":{}}}", text("x", size)).into_bytes()),
    ];
    (kind, flags, id, content).prop_map(|(kind, flags, id, content)| {
        let length = u32::try_from(content.len() + 4).unwrap();
        let header = Header { flags, ..Header::classic(Version::V1_1, Status(kind), length) };
        [&header.encode()[..], &id.to_le_bytes(), &content].concat()
    })
}

/// Returns either end of a session with calls of its own in flight.
fn established(server: bool) -> Connection {
    let limits = Limits::default().with_max_body(100_000);
    let mut client = Connection::client(limits).with_session(Settings::new());
    let mut server_end = Connection::server(limits).with_session(Settings::new().with_max_calls(3));
    let request = || Packet::request(Version::V1_1, Some("m"), None);
    client.call(request().finish(&limits).unwrap()).unwrap();
    server_end.receive(client.transmit());
    client.transmitted(usize::MAX);
    client.receive(server_end.transmit());
    server_end.transmitted(usize::MAX);
    server_end.receive(client.transmit());
    client.transmitted(usize::MAX);
    let mut end = if server { server_end } else { client };
    while end.poll_event().is_some() {}
    end.call(request().finish(&limits).unwrap()).unwrap();
    end.call(request().stream().finish(&limits).unwrap()).unwrap();
    while !end.transmit().is_empty() {
        end.transmitted(1);
    }
    end
}

fn seen(server: bool, portions: &[&[u8]], ends: bool) -> (Vec<Event>, Vec<u8>) {
    let mut end = established(server);
    let mut events = Vec::new();
    for portion in portions {
        end.receive(portion);
        events.extend(std::iter::from_fn(|| end.poll_event()));
    }
    if ends {
        end.receive_end();
    }
    events.extend(std::iter::from_fn(|| end.poll_event()));
    let mut said = Vec::new();
    while !end.transmit().is_empty() {
        said.extend_from_slice(end.transmit());
        end.transmitted(usize::MAX);
    }
    (events, said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_ends_once_and_everything_arrives(
        opener in terms(),
        acceptor in terms(),
        first in body(),
        steps in vec(step(), 1..250),
        goodbye in proptest::option::of((any::<sample::Index>(), 0..2_usize)),
    ) {
        let mut world = World::new([opener, acceptor], first);
        let at = goodbye.map(|(at, side)| (at.index(steps.len()), side));
        for (n, step) in steps.into_iter().enumerate() {
            if let Some((_, side)) = at.filter(|&(at, _)| at == n) {
                world.step(Step::Goodbye { side });
            }
            world.step(step);
        }
        world.settle(first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_portions_give_the_same_events_and_one_end(
        packets in vec(packet(), 0..12),
        noise in vec(any::<u8>(), 0..30),
        cuts in vec(any::<sample::Index>(), 0..6),
        server: bool,
        ends: bool,
    ) {
        let input = [packets.concat(), noise].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let portions: Vec<_> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let whole = seen(server, &[&input], ends);
        prop_assert_eq!(&whole, &seen(server, &portions, ends));
        let bytes: Vec<_> = input.chunks(1).collect();
        prop_assert_eq!(&whole, &seen(server, &bytes, ends));
        let closed = whole.0.iter().filter(|event| matches!(event, Event::Closed { .. })).count();
        prop_assert!(closed <= 1 && (!ends || closed == 1));
        let is_last = matches!(whole.0.last(), Some(Event::Closed { .. }));
        prop_assert!(closed == 0 || is_last);
    }
}

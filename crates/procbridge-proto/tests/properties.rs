//! Properties that must hold for any input: no split changes an outcome, nothing panics, what is written is read back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use procbridge_proto::{Connection, Event, Limits, Packet, Response, Version};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, sample};
use serde_json::Value;

/// Returns everything that can be seen of a connection after it took in `portions`.
fn seen(server: bool, portions: &[&[u8]], end: bool) -> (Vec<Event>, Vec<u8>, bool) {
    let limits = Limits::default().with_max_body(1 << 20).with_max_method(16);
    let mut connection = if server { Connection::server(limits) } else { client(limits) };
    for portion in portions {
        connection.receive(portion);
    }
    if end {
        connection.receive_end();
    }
    let events = std::iter::from_fn(|| connection.poll_event()).collect();
    (events, connection.transmit().to_vec(), connection.wants_input())
}

fn client(limits: Limits) -> Connection {
    let mut client = Connection::client(limits);
    client.call(Packet::request(Version::V1_1, None, None).finish(&limits).unwrap()).unwrap();
    let length = client.transmit().len();
    client.transmitted(length);
    client
}

/// Returns JSON text of any shape, with white space, escapes and numbers that no `Value` would write.
fn json_text() -> impl Strategy<Value = String> + Clone {
    let space = sample::select(vec!["", "", "", " ", "\n\t"]);
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?";
    let string = vec(
        prop_oneof![
            "[a-z {}\\[\\],:é😄]",
            sample::select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude04", "\\ud800"])
                .prop_map(str::to_string),
        ],
        0..8,
    )
    .prop_map(|parts| format!("\"{}\"", parts.concat()));
    let leaf = prop_oneof![
        sample::select(vec!["null", "true", "false"]).prop_map(str::to_string),
        number,
        string.clone(),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let array = (vec(inner.clone(), 0..6), space.clone())
            .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},"))));
        let object = (vec((string.clone(), inner), 0..6), space.clone()).prop_map(|(members, space)| {
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
            format!("{{{space}{}{space}}}", members.join(&format!(",{space}")))
        });
        prop_oneof![array, object]
    })
}

/// Returns packets that are right, packets with a byte changed, and noise.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let packet = (any::<bool>(), sample::select(vec![0_u8, 0, 0, 1, 1, 2, 3]), json_text(), json_text())
        .prop_map(|(old, status, first, second)| {
            let keys = if old { ("api", "body") } else { ("method", "payload") };
            let body = format!("{{\"{}\":{first},\"{}\":{second},\"x\":1}}", keys.0, keys.1);
            packet(if old { 0 } else { 1 }, status, body.as_bytes())
        });
    let mutated = (packet.clone(), any::<sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
        let at = at.index(packet.len());
        packet[at] = byte;
        packet
    });
    let noise = vec(any::<u8>(), 0..64);
    let framed = (0..3_u8, vec(any::<u8>(), 0..64)).prop_map(|(status, body)| packet_of(status, &body));
    prop_oneof![packet, mutated, noise, framed]
}

fn packet(minor: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![b'p', b'b', 1, minor, status, 0, 0];
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    out.extend(body);
    out
}

fn packet_of(status: u8, body: &[u8]) -> Vec<u8> {
    packet(1, status, body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_any_input_gives_the_same_events(
        input in input(),
        cuts in vec(any::<sample::Index>(), 0..6),
        server: bool,
        end: bool,
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let portions: Vec<_> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let whole = seen(server, &[&input], end);
        prop_assert_eq!(&whole, &seen(server, &portions, end));
        let bytes: Vec<_> = input.chunks(1).collect();
        prop_assert_eq!(&whole, &seen(server, &bytes, end));
        prop_assert!(whole.0.len() <= 1);
    }

    #[test]
    fn the_grammar_is_that_of_serde_json(text in prop_oneof![json_text(), "[\\[\\]{}\",:0-9eE.+\\-a-z\\\\ ]{0,20}"]) {
        let body = packet_of(1, format!("{{\"payload\":{text}}}").as_bytes());
        let (events, ..) = seen(false, &[&body], false);
        // serde_json decodes what it reads; to a RawValue it only checks, as is wanted here.
        let oracle = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text);
        match (&events[..], oracle) {
            ([Event::Response { response: Response::Good(good), .. }], Ok(raw)) => {
                let payload = good.payload().unwrap_or("null");
                prop_assert_eq!(payload, raw.get());
            }
            ([Event::Closed { error: Some(_) }], Err(_)) => {}
            // The text closed the object and went on, or brought keys of its own.
            (_, Err(_)) => {
                prop_assert!(serde_json::from_slice::<Value>(&body[11..]).is_ok());
            }
            (events, oracle) => prop_assert!(false, "{:?} but serde_json {:?}", events, oracle),
        }
    }

    #[test]
    fn a_result_that_is_left_to_a_parser_is_the_one_that_is_checked(
        first in json_text(),
        second in json_text(),
        twice: bool,
        changes in vec((any::<sample::Index>(), sample::select(b"{}[]\",:\\ 0en\x01".to_vec())), 0..3),
    ) {
        let key = if twice { "payload" } else { "x" };
        let mut body = format!("{{\"payload\":{first},\"{key}\":{second}}}").into_bytes();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let read = |limits: Limits| {
            let mut client = client(limits);
            client.receive(&packet_of(1, &body));
            client.poll_event().unwrap()
        };
        let good = |event: &Event| match event {
            Event::Response { response: Response::Good(good), .. } => Some(good.clone()),
            _ => None,
        };
        let limits = Limits::default().with_max_depth(4);
        let (checked, left) = (read(limits), read(limits.with_results_unchecked()));
        match (good(&checked), good(&left)) {
            (Some(checked), Some(left)) => {
                prop_assert_eq!(left.check(), Ok(()));
                prop_assert_eq!(checked.payload(), left.payload());
                prop_assert!(serde_json::from_slice::<Box<serde_json::value::RawValue>>(&body).is_ok());
            }
            (None, Some(left)) => {
                let Event::Closed { error: Some(error) } = checked else { panic!("{checked:?}") };
                prop_assert_eq!(left.check(), Err(error));
            }
            _ => prop_assert_eq!(checked, left),
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        method in prop_oneof![Just(None), any::<String>().prop_map(Some)],
        timeout in prop_oneof![Just(None), (0..1_u64 << 53).prop_map(Some)],
        payload in json_text(),
        message: String,
        code: String,
    ) {
        let limits = Limits::default().with_max_method(u32::MAX);
        let absent = |text: &str| if text == "null" { None } else { Some(text.to_string()) };

        let request = Packet::request(Version::V1_1, method.as_deref(), timeout).json_text(&payload).unwrap();
        let mut server = Connection::server(limits);
        server.receive(request.finish(&limits).unwrap().bytes());
        let Some(Event::Request { id, request }) = server.poll_event() else { panic!("no request") };
        prop_assert_eq!(request.method(), method.as_deref());
        prop_assert_eq!(request.timeout_ms(), timeout);
        prop_assert_eq!(request.payload().map(str::to_string), absent(&payload));

        let bad = Packet::bad(Version::V1_1, &message, Some(&code)).json_text(&payload).unwrap();
        server.reply(id, bad.finish(&limits).unwrap()).unwrap();
        let mut client = client(limits);
        client.receive(server.transmit());
        let Some(Event::Response { response: Response::Bad(bad), .. }) = client.poll_event() else {
            panic!("no bad response")
        };
        prop_assert_eq!(bad.message(), message);
        prop_assert_eq!(bad.code(), Some(&*code));
        prop_assert_eq!(bad.data().map(str::to_string), absent(&payload));
    }
}

//! The share of other peers beside one that takes all it can.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use procbridge::{Call, ClientConfig, Codec, Router, ServerConfig, SessionMode, code};
use procbridge_proto::{Limits, Packet, Version};
use serde_json::{Value, json};

use crate::opened;
use crate::support::faces::{ClientKind, FACES, Face, Options, TestClient, TestServer, Transport, code_of};
use crate::support::router::start;
use crate::support::wire::{
    BAD, GOOD, HEADER, HELLO, MORE, PING, PONG, REQUEST, RawStream, STREAM, packet, raw, raw_from,
    session_packet,
};
use crate::support::{eventually, everywhere_with_sessions, watched};

/// Opens a session by hand that sends requests of `method`, and waits until the server has looked at all of them.
fn greedy(server: &TestServer, calls: u32, method: &str, payload: &str) -> RawStream {
    let mut session = raw(&server.endpoint);
    session.open_session();
    let body = format!(r#"{{"method":"{method}","payload":{payload}}}"#);
    for id in (3..).step_by(2).take(calls as usize) {
        session.write_all(&session_packet(REQUEST, 0, id, &body)).unwrap();
    }
    session.write_all(&session_packet(PING, 0, 0, "{}")).unwrap();
    while session.packet().unwrap().kind != PONG {}
    session
}

/// Returns a client of `face` that opens a connection for each call.
fn classic(server: &TestServer, face: Face) -> TestClient {
    let kind = ClientKind { face, sessions: SessionMode::Off };
    TestClient::new(kind, &server.endpoint, ClientConfig::new())
}

/// Faults H3 and H18: a server-wide limit is shared out.
#[test]
fn nine_sessions_full_of_slow_calls_keep_nobody_out() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_max_concurrent_calls(100).with_max_session_calls(32);
        let (server, door) = start(server, transport, config);
        let quiet = opened(&server, client);
        let greedy: Vec<_> = (0..9).map(|_| greedy(&server, 40, "wait", "null")).collect();
        for caller in [quiet, opened(&server, client), classic(&server, client)] {
            assert_eq!(caller.request("sum", &json!([1, 2])).unwrap(), json!(3));
        }
        door.open();
        drop(greedy);
        server.stop();
    });
}

/// Sessions of one process have one share: a peer at another address is served however many they are.
#[test]
fn many_sessions_of_one_address_keep_no_other_address_out() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new().with_max_concurrent_calls(16).with_max_session_calls(32);
            let (server, door) = start(face, Transport::Tcp, config);
            let greedy: Vec<_> = (0..20).map(|_| greedy(&server, 2, "wait", "null")).collect();
            for _ in 0..2 {
                let mut other = raw_from(&server.endpoint, [127, 0, 0, 2]);
                other.write_all(&packet(r#"{"method":"sum","payload":[1,2]}"#)).unwrap();
                assert_eq!(other.answer().unwrap().1["payload"], json!(3));
            }
            door.open();
            drop(greedy);
            server.stop();
        });
    }
}

/// A server whose connections are all held by one address lets another one in.
#[test]
fn connections_of_one_address_keep_no_other_address_out() {
    for &face in FACES {
        watched(move || {
            let config = ServerConfig::new().with_max_connections(16);
            let (server, door) = start(face, Transport::Tcp, config);
            let mut callers: Vec<_> = (0..16).map(|_| raw(&server.endpoint)).collect();
            for caller in &mut callers {
                // One that was turned away may be closed already.
                let _ = caller.write_all(&packet(r#"{"method":"wait"}"#));
            }
            // One address gets three quarters of so few.
            door.wait_for_callers(12);
            let mut other = raw_from(&server.endpoint, [127, 0, 0, 2]);
            other.write_all(&packet(r#"{"method":"sum","payload":[1,2]}"#)).unwrap();
            assert_eq!(other.answer().unwrap().1["payload"], json!(3));
            door.open();
            let is_answered = |caller: &mut RawStream| {
                let mut bytes = Vec::new();
                let _ = caller.read_to_end(&mut bytes);
                bytes.get(4) == Some(&GOOD)
            };
            assert_eq!(callers.iter_mut().map(is_answered).filter(|&good| good).count(), 12);
            server.stop();
        });
    }
}

/// Fault H19: a monitor sees why a server is full.
#[test]
fn methods_of_the_protocol_are_answered_by_a_full_server() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_concurrent_calls(1));
        let full = greedy(&server, 1, "wait", "null");
        door.wait_for_callers(1);
        for caller in [opened(&server, client), classic(&server, client)] {
            assert_eq!(code_of(caller.request("sum", &json!([1]))), code::OVERLOADED);
            assert_eq!(caller.request("$/ping", &json!(7)).unwrap(), json!(7));
            let stats = caller.request("$/stats", &json!(null)).unwrap();
            assert_eq!(stats["methods"]["wait"]["in_flight"], json!(1));
            assert!(caller.request("$/describe", &json!(null)).is_ok());
        }
        door.open();
        drop(full);
        server.stop();
    });
}

/// Fault H9: the bytes of one peer's requests leave space for those of the others.
#[test]
fn requests_of_one_session_do_not_take_all_bytes() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_max_buffered_bytes(1 << 20);
        let (server, door) = start(server, transport, config);
        let large = format!("\"{}\"", "x".repeat(100_000));
        let full = greedy(&server, 20, "wait", &large);
        let caller = opened(&server, client);
        for size in [10, 3000, 4000] {
            let text = json!("y".repeat(size));
            assert_eq!(caller.request("echo", &text).unwrap(), text);
        }
        door.open();
        drop(full);
        server.stop();
    });
}

/// Fault H2: no bit of a request switches the server's timeout off.
#[test]
fn only_a_stream_is_free_of_the_handlers_time_limit() {
    everywhere_with_sessions(|server, client, transport| {
        let limit = Duration::from_millis(100);
        let (server, _door) = start(server, transport, ServerConfig::new().with_handler_timeout(limit));
        let client = opened(&server, client);
        let mut asked = client.stream("wait", &json!(null)).unwrap();
        assert_eq!(code_of(asked.next().unwrap()), code::TIMEOUT);

        let mut session = raw(&server.endpoint);
        session.open_session();
        session.write_all(&session_packet(REQUEST, STREAM, 3, r#"{"method":"wait"}"#)).unwrap();
        let answer = session.packet().unwrap();
        assert_eq!((answer.kind, answer.json()["code"].clone()), (BAD, json!(code::TIMEOUT)));
        server.stop();
    });
}

/// Fault H1: text that costs its sender nothing is not inflated without bound.
#[test]
fn what_inflates_to_far_more_than_was_sent_is_refused_after_a_while() {
    for (codec, bits) in [(Codec::Lz4, 0x10), (Codec::Zstd, 0x20)] {
        for &face in FACES {
            watched(move || {
                let (server, _door) = start(face, Transport::Unix, ServerConfig::new());
                let request = Packet::request(Version::V1_1, Some("$/ping"), None);
                let text = format!("[{}]", "[],".repeat(5 << 20).trim_end_matches(','));
                let request = request.json_text(&text).unwrap();
                let content =
                    request.finish(&Limits::default()).unwrap().compressed(codec).bytes()[HEADER..].to_vec();
                let mut session = raw(&server.endpoint);
                session.open_session();
                for id in (3..).step_by(2).take(24) {
                    session.write_all(&session_packet(REQUEST, bits, id, &content)).unwrap();
                }
                // A large request is answered `overloaded` or, echoed by a ping, in pieces; each ends once.
                let (mut good, mut refused) = (0, 0);
                while good + refused < 24 {
                    let packet = session.packet().unwrap();
                    match packet.kind {
                        GOOD if packet.flags & MORE == 0 => good += 1,
                        GOOD => {}
                        BAD => {
                            assert_eq!(packet.json()["code"], json!(code::OVERLOADED), "{}", packet.json());
                            refused += 1;
                        }
                        kind => panic!("kind {kind}"),
                    }
                }
                assert!(good >= 1 && refused >= 8, "{codec:?}: {good} good, {refused} refused");
                assert_eq!(opened(&server, face).request("sum", &json!([1])).unwrap(), json!(1));
                server.stop();
            });
        }
    }
}

/// Fault H7: unread answers are bounded together.
#[test]
fn answers_that_are_not_read_are_refused_beyond_a_share() {
    everywhere_with_sessions(|server, client, transport| {
        let config = ServerConfig::new().with_max_unread_bytes(8 << 20);
        let (server, _door) = start(server, transport, config);
        let mut lazy = raw(&server.endpoint);
        lazy.open_session();
        let calls = 24;
        for id in (3..).step_by(2).take(calls) {
            let body = r#"{"method":"big","payload":1000000}"#;
            lazy.write_all(&session_packet(REQUEST, 0, id, body)).unwrap();
        }
        let caller = opened(&server, client);
        eventually(|| {
            let stats = caller.request("$/stats", &json!(null)).unwrap();
            stats["methods"]["big"]["calls"] == json!(calls)
        });
        // It reads nothing, and others get their answers.
        assert_eq!(caller.request("big", &json!(100_000)).unwrap(), json!("x".repeat(100_000)));
        let (mut good, mut refused, mut pieces) = (0, 0, 0);
        while good + refused < calls {
            let packet = lazy.packet().unwrap();
            match packet.kind {
                GOOD if packet.flags & MORE == 0 => good += 1,
                GOOD => pieces += 1,
                BAD => {
                    assert_eq!(packet.json()["code"], json!(code::TOO_LARGE), "{}", packet.json());
                    refused += 1;
                }
                kind => panic!("kind {kind}"),
            }
        }
        assert!(good >= 3 && refused >= calls / 3 && pieces > good, "{good} good, {refused} refused");
        server.stop();
    });
}

/// Fault H12.
#[test]
fn a_caller_that_takes_next_to_nothing_is_answered() {
    everywhere_with_sessions(|server, _, transport| {
        let (server, _door) = start(server, transport, ServerConfig::new().with_max_session_calls(4));
        let mut session = raw(&server.endpoint);
        session.open_session();
        session.write_all(&session_packet(HELLO, 0, 0, r#"{"session":1,"max_body":60}"#)).unwrap();
        let body = format!(r#"{{"method":"echo","payload":"{}"}}"#, "x".repeat(200));
        for id in (3..43).step_by(2) {
            session.write_all(&session_packet(REQUEST, 0, id, &body)).unwrap();
            let answer = session.packet().unwrap();
            assert_eq!((answer.kind, answer.id(), answer.json()), (BAD, id, json!({})));
        }
        server.stop();
    });
}

/// Fault G-B: one-way calls that take no time are all run, however many arrive at once.
#[test]
fn a_burst_of_one_way_calls_is_run_to_the_last() {
    everywhere_with_sessions(|server, client, transport| {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let note = move |_: Value| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let router = Router::new().method("note", note);
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        for n in 0..3000 {
            client.notify("note", &json!(n)).unwrap();
        }
        assert_eq!(client.request("$/ping", &json!(1)).unwrap(), json!(1));
        eventually(|| {
            let stats = client.request("$/stats", &json!(null)).unwrap();
            assert_eq!(stats["dropped"], json!(0));
            count.load(Ordering::Relaxed) == 3000
        });
        server.stop();
    });
}

#[test]
fn one_way_calls_that_find_no_place_are_counted() {
    everywhere_with_sessions(|server, client, transport| {
        let (server, door) = start(server, transport, ServerConfig::new().with_max_session_calls(1));
        let mut session = raw(&server.endpoint);
        session.open_session();
        session.write_all(&session_packet(REQUEST, 0, 3, r#"{"method":"wait"}"#)).unwrap();
        door.wait_for_callers(1);
        for id in [5, 7] {
            session.write_all(&session_packet(REQUEST, 0x02, id, r#"{"method":"echo"}"#)).unwrap();
        }
        let client = opened(&server, client);
        eventually(|| client.request("$/stats", &json!(null)).unwrap()["dropped"] == json!(2));
        door.open();
        server.stop();
    });
}

/// Fault H18: a caller that has closed its connection is not waited for.
#[test]
fn a_classic_caller_that_is_gone_cancels_its_call() {
    for &face in FACES {
        watched(move || {
            let (server, door) = start(face, Transport::Unix, ServerConfig::new());
            let mut callers: Vec<_> = (0..3).map(|_| raw(&server.endpoint)).collect();
            for caller in &mut callers {
                caller.write_all(&packet(r#"{"method":"wait"}"#)).unwrap();
            }
            door.wait_for_callers(3);
            // One that only sends no more is waited for.
            let mut patient = raw(&server.endpoint);
            patient.write_all(&packet(r#"{"method":"wait"}"#)).unwrap();
            patient.finish_writing();
            door.wait_for_callers(4);
            drop(callers);
            let client = opened(&server, face);
            eventually(|| {
                let stats = client.request("$/stats", &json!(null)).unwrap();
                stats["methods"]["wait"]["in_flight"] == json!(1)
            });
            door.open();
            assert_eq!(patient.answer().unwrap().1["payload"], json!(true));
            server.stop();
        });
    }
}

/// A caller may send what is compressed and be unable to read it: its answer comes plain.
#[test]
fn a_compressed_call_is_answered_in_a_form_that_its_caller_reads() {
    everywhere_with_sessions(|server, _, transport| {
        let (server, _door) = start(server, transport, ServerConfig::new());
        let mut session = raw(&server.endpoint);
        session.open_session();
        let text = format!(r#"{{"method":"echo","payload":"{}"}}"#, "x".repeat(5000));
        // LZ4 with literals alone: the size, then a token, the length behind it, and the text.
        let mut content = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        content.push(0xF0);
        content.extend(std::iter::repeat_n(255, (text.len() - 15) / 255));
        content.push(u8::try_from((text.len() - 15) % 255).unwrap());
        content.extend(text.as_bytes());
        session.write_all(&session_packet(REQUEST, 0x10, 3, content)).unwrap();
        let answer = session.packet().unwrap();
        assert_eq!((answer.kind, answer.id(), answer.flags & 0x30), (GOOD, 3, 0));
        assert_eq!(answer.json()["payload"], json!("x".repeat(5000)));
        server.stop();
    });
}

/// A large body is read beside the session: its timeout and its cancelling hold all the same.
#[test]
fn a_large_call_has_its_time_limit_and_is_cancelled_as_any_other() {
    everywhere_with_sessions(|server, client, transport: Transport| {
        let router = Router::new().method("wait", |call: &Call| {
            while !call.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            call.payload().map(str::len)
        });
        let server = TestServer::start(server, transport, router, ServerConfig::new());
        let client = opened(&server, client);
        let text = json!("x".repeat(3 << 20));
        let options = Options { timeout: Some(Duration::from_secs(1)), ..Default::default() };
        assert!(client.ask("wait", &text, &options).unwrap_err().is_timeout());
        eventually(|| {
            let stats = client.request("$/stats", &json!(null)).unwrap();
            stats["methods"]["wait"]["in_flight"] == json!(0)
        });
        server.stop();
    });
}

//! Every bad input, written by hand at a running server: what it says, that it can be read, and that the server goes on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "tests may stop at the first surprise"
)]

mod demo;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use demo::{Answer, Demo, Stream, WATCHDOG, request};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

fn refused(version: [u8; 2], code: &Value, answer: Option<Answer>) {
    let answer = answer.expect("no answer");
    assert_eq!((answer.version, answer.status), (version, 2), "{answer:?}");
    assert_eq!(&answer.body["code"], code);
    let key = if version == [1, 0] { "msg" } else { "message" };
    assert!(answer.body[key].as_str().is_some_and(|message| !message.is_empty() && !message.contains('\n')));
}

fn bytes(parts: &Value) -> Vec<u8> {
    let hex = |text: &str| -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let part = |part: &Value| -> Vec<u8> {
        if let Some(text) = part.as_str() {
            hex(text)
        } else if let Some(text) = part["text"].as_str() {
            text.as_bytes().to_vec()
        } else if let Some(text) = part["repeat"].as_str() {
            hex(text).repeat(usize::try_from(part["times"].as_u64().unwrap()).unwrap())
        } else {
            let body = bytes(&part["body"]);
            [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
        }
    };
    parts.as_array().unwrap().iter().flat_map(part).collect()
}

/// Every vector of the specification that a server with the default limits can be shown.
#[test]
fn the_vectors_hold_over_sockets() {
    let demo = Demo::start(&[]);
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors");
    let mut count = 0;
    for directory in ["packet", "reject"] {
        for entry in fs::read_dir(vectors.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let vector: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            if vector["receiver"] != "server" || vector.get("limits").is_some() {
                continue;
            }
            for endpoint in &demo.endpoints {
                let mut stream = demo.connect(endpoint);
                // A refused peer may find its writing cut short; the answer is there all the same.
                let _ = stream.write_all(&bytes(&vector["bytes"]));
                if vector["end"] == true {
                    stream.finish_writing();
                }
                let answer = stream.answer();
                let expect = &vector["expect"];
                let version = |text: &Value| if text == "1.0" { [1, 0] } else { [1, 1] };
                if let Some(error) = expect.get("error") {
                    match &error["answer"] {
                        Value::Null => assert_eq!(answer, None, "{}", path.display()),
                        expected => refused(version(&expected["version"]), &expected["code"], answer),
                    }
                } else if let Some(expected) = expect.get("request") {
                    let answer = answer.unwrap_or_else(|| panic!("{}: no answer", path.display()));
                    assert_eq!(answer.version, version(&expected["version"]), "{}", path.display());
                } else {
                    assert_eq!(answer, None, "{}", path.display());
                }
                count += 1;
            }
        }
    }
    assert!(count > 200, "only {count} vectors were run");
    demo.endpoints.iter().for_each(|endpoint| demo.check(endpoint));
}

#[test]
fn a_request_cut_at_every_byte_ends_definitely() {
    let demo = Demo::start(&[]);
    let request = request(r#"{"method":"sum","payload":[1]}"#);
    for endpoint in &demo.endpoints {
        for cut in 0..request.len() {
            let mut stream = demo.connect(endpoint);
            stream.write_all(&request[..cut]).unwrap();
            stream.finish_writing();
            match cut {
                0..4 => assert_eq!(stream.answer(), None, "cut at {cut}"),
                _ => refused([1, 1], &json!("invalid_request"), stream.answer()),
            }
            // The same with a reset, which no answer can reach.
            let mut stream = demo.connect(endpoint);
            stream.write_all(&request[..cut]).unwrap();
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        demo.check(endpoint);
    }
}

#[test]
fn strangers_are_not_answered() {
    let demo = Demo::start(&[]);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let garbage: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for endpoint in &demo.endpoints {
        for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], hello, &garbage, b"\0", b"pB", b"\n"] {
            let mut stream = demo.connect(endpoint);
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            // Its late bytes may reset the connection: the server does not wait for it.
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"");
        }
        demo.check(endpoint);
    }
}

#[test]
fn a_refusal_can_be_read_by_a_peer_that_is_still_sending() {
    let demo = Demo::start(&["--max-body", "1MiB"]);
    let body = format!("{{\"payload\":\"{}\"}}", "x".repeat(30_000_000));
    let nested = "[".repeat(1_000_000);
    for endpoint in &demo.endpoints {
        let mut stream = demo.connect(endpoint);
        stream.write_all(&request(&body)).unwrap();
        let answer = stream.answer();
        let message = answer.as_ref().unwrap().body["message"].clone();
        assert_eq!(message, "body of 30000014 B exceeds the limit of 1048576 B (max_body)");
        refused([1, 1], &json!("too_large"), answer);

        let mut stream = demo.connect(endpoint);
        stream.write_all(b"pb\x01\x01\0\0\0\xff\xff\xff\xff").unwrap();
        refused([1, 1], &json!("too_large"), stream.answer());

        let mut stream = demo.connect(endpoint);
        stream.write_all(&request(&format!("{{\"payload\":{nested}"))).unwrap();
        refused([1, 1], &json!("too_large"), stream.answer());

        // Another version with much behind it.
        let mut stream = demo.connect(endpoint);
        stream.write_all(&[&b"pb\x02\x00"[..], &body.as_bytes()[..5_000_000]].concat()).unwrap();
        refused([1, 1], &json!("unsupported_version"), stream.answer());
        demo.check(endpoint);
    }
}

#[test]
fn what_is_announced_is_not_allocated() {
    let demo = Demo::start(&[]);
    for endpoint in &demo.endpoints {
        // The cost of 300 connections that announce nothing is another matter.
        let small = flood(&demo, endpoint, 100);
        let more = flood(&demo, endpoint, 16 << 20).saturating_sub(small);
        assert!(more < 8 * 1024, "{endpoint}: 300 headers cost {more} KiB more than small ones");
    }
}

/// Returns the KiB that are resident while 300 connections have announced bodies of `length` bytes.
fn flood(demo: &Demo, endpoint: &str, length: u32) -> usize {
    demo.check(endpoint);
    let streams: Vec<Stream> = (0..300)
        .map(|_| {
            let mut stream = demo.connect(endpoint);
            // One for which there is no place may be gone already.
            let _ = stream.write_all(&[&b"pb\x01\x01\0\0\0"[..], &length.to_le_bytes(), b"{"].concat());
            stream
        })
        .collect();
    // Nothing tells that a server has read: what it holds after a second counts. Threads that came for the crowd of
    // connections, and what the allocator gave them, are gone by then.
    thread::sleep(Duration::from_secs(1));
    let held = demo.resident();
    drop(streams);
    demo.recover(endpoint);
    held
}

#[test]
fn the_demo_answers_what_the_other_languages_demos_answer() {
    let demo = Demo::start(&[]);
    for endpoint in &demo.endpoints {
        for (body, status, answer) in [
            (
                r#"{"method":"echo","payload":{"b":1.0,"a":[null]}}"#,
                1,
                json!({"payload": {"b": 1.0, "a": [null]}}),
            ),
            (r#"{"method":"echo"}"#, 1, json!({})),
            (r#"{"method":"sum","payload":[1,2,3,4]}"#, 1, json!({"payload": 10})),
            (r#"{"method":"err"}"#, 2, json!({"message": "generated error"})),
            (r#"{"method":"sleep","payload":0.01}"#, 1, json!({})),
            (r#"{"method":"else","payload":1}"#, 1, json!({})),
            (r#"{"payload":"hello"}"#, 1, json!({})),
            ("{}", 1, json!({})),
        ] {
            let mut stream = demo.connect(endpoint);
            stream.write_all(&request(body)).unwrap();
            assert_eq!(stream.answer(), Some(Answer { version: [1, 1], status, body: answer }), "{body}");
        }
    }
    let started = Instant::now();
    assert_eq!(demo.terminate(), Some(0));
    assert!(started.elapsed() < WATCHDOG);
}

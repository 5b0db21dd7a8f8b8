//! `procbridge decode` with the packets of sessions.

use crate::support::{Run, hello, packet, program, run_with, session_packet};
use serde_json::{Value, json};

fn decode(args: &[&str], packets: &[Vec<u8>]) -> Run {
    run_with(program(&[&["decode", "-"], args].concat()), &packets.concat())
}

/// Returns a client's first packet.
fn offer() -> Vec<u8> {
    let mut offer = packet(0, r#"{"method":"sum","payload":[1]}"#);
    (offer[5], offer[6]) = (0x05, 0x03);
    offer
}

/// Returns everything that was decoded, as a program reads it.
#[track_caller]
fn lines(args: &[&str], packets: &[Vec<u8>]) -> Vec<Value> {
    let run = decode(&[args, &["--json"]].concat(), packets);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), packets.len(), "{run:?}");
    lines
}

#[test]
fn what_a_server_sends_has_ids_behind_its_hello() {
    let run = decode(&[], &[hello(), session_packet(1, 0, 3, b"{\"payload\":1}")]);
    let expected = "       0  70 62           flag      \"pb\"
       2  01 01           version   1.1
       4  03              status    3, hello
       5  01              flags     0x01, session
       6  00              options   0
       7  0d 00 00 00     length    13
      11  7b 22 73 65 ..  body      {
                                      \"session\": 1
                                    }
      24  70 62           flag      \"pb\"
      26  01 01           version   1.1
      28  01              status    1, good response
      29  00              flags     0
      30  00              options   0
      31  11 00 00 00     length    17
      35  03 00 00 00     id        3
      39  7b 22 70 61 ..  body      {
                                      \"payload\": 1
                                    }
";
    run.prints(expected);
}

#[test]
fn what_a_client_sends_has_ids_behind_its_offer() {
    let found = lines(
        &[],
        &[
            offer(),
            session_packet(0, 4, 3, b"{\"method\":\"m\"}"),
            session_packet(5, 0, 3, b"{\"items\":32,\"bytes\":0}"),
            session_packet(6, 0, 3, b"{}"),
            session_packet(3, 0, 0, b"{\"session\":1,\"max_concurrent_calls\":8}"),
            session_packet(7, 0, 0, b""),
            session_packet(9, 0, 0, b"{\"last_id\":0}"),
        ],
    );
    let names: Vec<_> = found.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["request", "request", "credit", "cancel", "hello", "ping", "goodbye"]);
    let ids: Vec<_> = found.iter().map(|line| &line["id"]).collect();
    assert_eq!(json!(ids), json!([null, 3, 3, 3, 0, 0, 0]));
    assert_eq!((&found[1]["flag_names"], &found[1]["body"]), (&json!(["stream"]), &json!({"method": "m"})));
    assert_eq!((&found[5]["body"], &found[5]["length"]), (&Value::Null, &json!(4)));
    let run = decode(&[], &[offer()]);
    assert!(run.stdout.contains("flags     0x05, session, stream\n"), "{}", run.stdout);
    assert!(run.stdout.contains("options   0x03, reads lz4 and zstd\n"), "{}", run.stdout);
}

#[test]
fn both_directions_may_be_in_one_capture() {
    let found = lines(
        &[],
        &[offer(), hello(), session_packet(1, 0, 1, b"{}"), session_packet(0, 0, 3, b"{\"method\":\"m\"}")],
    );
    assert_eq!((&found[1]["id"], &found[2]["id"], &found[3]["id"]), (&Value::Null, &json!(1), &json!(3)));
    // Offers that were not accepted: each has its answer.
    let found = lines(&[], &[offer(), packet(1, "{}"), offer(), packet(2, "{}"), packet(0, "{}")]);
    assert!(found.iter().all(|line| line["id"].is_null()), "{found:?}");
}

#[test]
fn bodies_that_are_no_json_as_they_stand_are_told_as_such() {
    let packets = [
        session_packet(4, 0x10, 1, b"\x05\0\0\0\x50hello"),
        session_packet(1, 0x08, 1, b"{\"payload\":\"a"),
        session_packet(1, 0, 1, b"b\"}"),
        session_packet(42, 0, 1, b"\xff\xff"),
    ];
    let found = lines(&["--session"], &packets);
    assert!(found.iter().all(|line| line["body"].is_null() && line["id"] == 1), "{found:?}");
    assert_eq!((&found[0]["flag_names"], &found[3]["name"]), (&json!(["lz4"]), &json!("unknown")));
    let run = decode(&["--session"], &packets);
    for text in [
        "flags     0x10, lz4\n",
        "body      10 bytes, compressed\n",
        "body      13 bytes of a body in pieces\n",
        "body      3 bytes of a body in pieces\n",
        "status    42, unknown\n",
        "body      2 bytes\n",
    ] {
        assert!(run.stdout.contains(text), "{text}: {}", run.stdout);
    }
}

#[test]
fn a_packet_that_breaks_a_rule_is_named_as_in_a_session() {
    let wrong = |bytes: Vec<u8>, message: &str, code: &str| {
        let run = decode(&["--session"], &[bytes]);
        assert_eq!(
            (run.code, run.stderr.as_str()),
            (Some(6), format!("error: {message}\n  code: {code}\n").as_str())
        );
        assert!(run.stdout.contains("  status  "), "{}", run.stdout);
    };
    wrong(session_packet(7, 0, 1, b"{}"), "packet of kind PING cannot have the call id 1 here", "invalid_id");
    wrong(session_packet(1, 0, 0, b"{}"), "packet of kind GOOD cannot have the call id 0 here", "invalid_id");
    wrong(packet(6, "ab"), "session packet of 2 B has no room for its call id of 4 B", "truncated_id");
    wrong(
        session_packet(9, 0x10, 0, b"{}"),
        "packet of kind GOODBYE has a compression that was not offered: flags 0x10",
        "unexpected_codec",
    );
    wrong(
        session_packet(6, 0x08, 1, b"{}"),
        "packet of kind CANCEL of call 1 does not fit the pieces before it",
        "unexpected_piece",
    );
    wrong(
        session_packet(0, 0, 1, b"{\"method\":1}"),
        "\"method\" must be a string, found a number",
        "invalid_method",
    );
    wrong(
        session_packet(4, 0, 1, b"{\"payload\":1"),
        "body is not JSON: expected ',' or '}' at byte 12",
        "invalid_json",
    );
    let mut cut = session_packet(4, 0, 1, b"{\"payload\":1}");
    cut.truncate(20);
    wrong(cut, "input ended after 9 of 17 bytes of a packet's body", "truncated");
    let mut old = session_packet(1, 0, 1, b"{}");
    old[3] = 0;
    wrong(old, "unsupported version 1.0, expected 1.1", "unsupported_version");
    let strange = packet(3, "{\"session\":2}");
    let run = decode(&[], &[strange]);
    assert_eq!(
        run.stderr,
        "error: unsupported session format 2, this side speaks 1\n  code: unsupported_session\n"
    );
}

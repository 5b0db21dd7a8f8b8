//! `procbridge decode`: right packets, wrong packets, and every form of input.

use std::fs;

use crate::support::{Run, packet, program, run, run_with};
use serde_json::{Value, json};

const REQUEST: &str = r#"{"method":"sum","payload":[1.0, 2]}"#;

fn decode(input: &[u8]) -> Run {
    run_with(program(&["decode", "-"]), input)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_packet_is_shown_field_by_field() {
    let listing = "       0  70 62           flag      \"pb\"
       2  01 01           version   1.1
       4  00              status    0, request
       5  00              flags     0
       6  00              options   0
       7  23 00 00 00     length    35
      11  7b 22 6d 65 ..  body      {
                                      \"method\": \"sum\",
                                      \"payload\": [
                                        1.0,
                                        2
                                      ]
                                    }
";
    let bytes = packet(0, REQUEST);
    decode(&bytes).prints(listing);
    run(&["decode", &hex(&bytes)]).prints(listing);
    let words = hex(&bytes);
    run(&[&["decode"][..], &words.split(' ').collect::<Vec<_>>()].concat()).prints(listing);
    decode(hex(&bytes).as_bytes()).prints(listing);
    // Without an argument it is standard input.
    run_with(program(&["decode"]), &bytes).prints(listing);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    fs::write(&path, &bytes).unwrap();
    run(&["decode", &format!("@{}", path.display())]).prints(listing);
    fs::write(&path, hex(&bytes).replace(' ', ":")).unwrap();
    run(&["decode", &format!("@{}", path.display())]).prints(listing);
}

#[test]
fn packets_follow_each_other() {
    let mut bytes =
        [packet(0, "{}"), packet(1, "{\"payload\":1E400}"), packet(2, "{\"message\":\"no\"}")].concat();
    let run = decode(&bytes);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    for line in [
        "\n      11  7b 7d           body      {}\n      13  70 62           flag ",
        "\n      17  01              status    1, good response\n",
        "\"payload\": 1E400\n",
        "\n      45  02              status    2, bad response\n",
    ] {
        assert!(run.stdout.contains(line), "{line}\n{}", run.stdout);
    }
    let run = run_with(program(&["decode", "--json", "-"]), &bytes);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        lines[1],
        r#"{"ok":true,"offset":13,"version":"1.1","status":1,"name":"good response","flags":0,"options":0,"length":17,"body":{"payload":1E400}}"#
    );
    assert_eq!((lines.len(), run.code), (3, Some(0)));

    // The good ones are shown, also when a bad one follows.
    bytes.extend_from_slice(b"pb\x01");
    let run = decode(&bytes);
    assert!(run.stdout.ends_with("\n      68  70 62           flag      \"pb\"\n"), "{}", run.stdout);
    let cut =
        "error: packet at byte 68: input ended after 3 of 11 bytes of a packet's header\n  code: truncated\n";
    assert_eq!((run.code, run.stderr.as_str()), (Some(6), cut));
    let run = run_with(program(&["decode", "--json", "-"]), &bytes);
    let last: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["ok"], &last["error"]["code"], &last["exit"]),
        (&json!(false), &json!("truncated"), &json!(6))
    );
    assert_eq!((run.stdout.lines().count(), run.stderr.as_str(), run.code), (4, "", Some(6)));
}

#[test]
fn the_old_format_and_reserved_bytes_are_told() {
    let mut bytes = packet(0, "{\"api\":\"a\",\"body\":{}}");
    bytes[3..7].copy_from_slice(&[0, 0, 0x05, 0x80]);
    let run = decode(&bytes);
    for line in [
        "version   1.0\n",
        "flags     0x05, reserved and ignored\n",
        "options   0x80, reserved and ignored\n",
    ] {
        assert!(run.stdout.contains(line), "{line}\n{}", run.stdout);
    }
    assert_eq!(run.code, Some(0));
}

#[track_caller]
fn wrong(bytes: &[u8], lines: usize, error: &str) {
    let run = decode(bytes);
    assert_eq!((run.code, run.stderr.as_str()), (Some(6), format!("error: {error}\n").as_str()));
    assert_eq!(run.stdout.lines().count(), lines, "{}", run.stdout);
}

#[test]
fn a_wrong_packet_is_shown_as_far_as_it_is_right() {
    let request = packet(0, REQUEST);
    for length in 1..request.len() {
        let run = decode(&request[..length]);
        assert_eq!(run.code, Some(6), "{length}: {run:?}");
        assert!(run.stderr.contains("  code: truncated\n"), "{length}: {run:?}");
    }
    wrong(&request[..1], 0, "input ended after 1 of 11 bytes of a packet's header\n  code: truncated");
    wrong(&request[..10], 5, "input ended after 10 of 11 bytes of a packet's header\n  code: truncated");
    wrong(&request[..11], 6, "input ended after 0 of 35 bytes of a packet's body\n  code: truncated");
    wrong(&request[..20], 7, "input ended after 9 of 35 bytes of a packet's body\n  code: truncated");
    wrong(
        b"pb\x02\x00",
        1,
        "unsupported version 2.0, this side speaks 1.1 and 1.0\n  code: unsupported_version",
    );
    wrong(
        b"pb\x01\x01\x07\0\0\0\0\0\0",
        6,
        "unexpected status code 7, expected a request (0) or a response (1 or 2)\n  code: unexpected_status",
    );
    wrong(
        b"pb\x01\x01\0\0\0\xff\xff\xff\xff{",
        7,
        "input ended after 1 of 4294967295 bytes of a packet's body\n  code: truncated",
    );
    wrong(&packet(1, "{\"a\":1"), 7, "body is not JSON: expected ',' or '}' at byte 6\n  code: invalid_json");
    wrong(&packet(0, "[]"), 7, "body must be a JSON object, found an array\n  code: not_an_object");
    wrong(
        &packet(0, "{\"method\":1}"),
        7,
        "\"method\" must be a string, found a number\n  code: invalid_method",
    );
    wrong(
        b"\xffgarbage",
        0,
        "not a ProcBridge packet: byte 0 is 0xff, expected the flag \"pb\"\n  code: not_procbridge",
    );
    wrong(
        b"GET / HTTP/1.1\r\n",
        0,
        "not a ProcBridge packet: byte 0 is 0x47, expected the flag \"pb\"\n  code: not_procbridge\n  \
         help: neither is it hexadecimal: 'G' is not a hexadecimal digit",
    );
}

#[test]
fn an_argument_that_is_no_hexadecimal_is_a_mistake_of_the_command_line() {
    run(&["decode", "70 6g"]).fails(
        2,
        "error: not hexadecimal: 'g' is not a hexadecimal digit\n  \
         help: a file is given as @FILE, standard input as -\n",
    );
    run(&["decode", "706"]).fails(
        2,
        "error: not hexadecimal: \"706\" has an odd number of digits\n  \
         help: a file is given as @FILE, standard input as -\n",
    );
    run(&["decode", ""]).fails(2, "error: no bytes to decode\n");
    run(&["decode"]).fails(2, "error: no bytes to decode\n");
    run(&["decode", "@/no/such"]).fails(2, "error: cannot read /no/such: no such file or directory\n");
    run(&["decode", "@/dev/zero"]).fails(
        2,
        "error: /dev/zero exceeds the limit of 67108864 B\n  help: split the capture between two packets\n",
    );
    let envelope = run(&["decode", "--json", "x"]).envelope();
    assert_eq!((&envelope["error"]["kind"], &envelope["exit"]), (&json!("usage"), &json!(2)));
}

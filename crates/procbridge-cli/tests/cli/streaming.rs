//! `procbridge call` with a stream, without an answer, and many times over.

use std::io::Write;
use std::net::TcpListener;

use crate::support::{
    Serving, Talking, WATCHDOG, end_of, fake, fill, hello, packet, program, request, run, run_with,
    session_packet, signal, stats, wait_until,
};
use serde_json::{Value, json};

#[test]
fn items_are_lines_and_the_methods_own_result_is_the_last() {
    for server in [Serving::demo(), Serving::classic()] {
        server.call(&["count", "n:=3", "--stream"]).prints("0\n1\n2\n");
        server.call(&["count", "n:=0", "--stream"]).prints("");
        // One that does not stream has its result alone.
        server.call(&["sum", "[1,2]", "--stream"]).prints("3\n");
        server.call(&["echo", "\"a\\nb\"", "--stream", "-r"]).prints("a\nb\n");
        server.call(&["nothing", "--stream"]).prints("");
        // One that does is answered as an array, where no stream is asked for.
        server.call(&["count", "n:=3"]).prints("[0,1,2]\n");
        server.call(&["err", "--stream"]).fails(3, "error: generated error\n");
        server.call(&["count", "--stream", "--classic", "n:=2"]).prints("0\n1\n");
    }
    let server = Serving::demo();
    let many = server.call(&["count", "n:=5000", "--stream"]);
    assert_eq!(
        many.stdout.lines().map(|line| line.parse().unwrap()).collect::<Vec<u32>>(),
        (0..5000).collect::<Vec<_>>()
    );
}

#[test]
fn items_come_one_by_one_and_what_came_is_kept() {
    let server = Serving::demo();
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let call = Talking::start(&[
            "call",
            server.endpoint(),
            "count",
            r#"{"n":1000000,"interval_ms":5}"#,
            "--stream",
            "--timeout",
            "none",
        ]);
        assert_eq!([call.line(), call.line()], ["0", "1"]);
        call.signal(name);
        let (code, lines, notes) = call.end();
        assert_eq!((code, notes), (Some(status), Vec::new()));
        for (number, line) in (2..).zip(lines) {
            assert_eq!(line, number.to_string());
        }
        server.wait_until_idle("count");
    }
}

#[test]
fn with_the_envelope_items_are_marked() {
    let server = Serving::demo();
    let run = server.call(&["count", "n:=2", "--stream", "--json"]);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..2], [json!({"item": 0}), json!({"item": 1})]);
    assert_eq!(
        (&lines[2]["ok"], &lines[2]["payload"], &lines[2]["items"]),
        (&json!(true), &Value::Null, &json!(2))
    );
    assert_eq!((run.code, lines.len(), run.stderr.as_str()), (Some(0), 3, ""));
    // Items before a failure are kept.
    let bad = fake(|stream| {
        stream.write_all(&hello()).unwrap();
        stream.write_all(&session_packet(4, 0, 1, b"{\"payload\":\"a\"}")).unwrap();
        stream.write_all(&session_packet(2, 0, 1, b"{\"message\":\"enough\",\"code\":\"a.b\"}")).unwrap();
    });
    let run = crate::support::run(&["call", &bad, "m", "--stream"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), "\"a\"\n"));
    assert_eq!(run.stderr, "error: enough\n  code: a.b\n");
}

#[test]
fn a_stream_has_a_time_limit_only_if_it_is_given_one() {
    let server = Serving::demo();
    let run = server.call(&["count", r#"{"n":1000000,"interval_ms":10}"#, "--stream", "--timeout", "200ms"]);
    assert_eq!(run.code, Some(5), "{run:?}");
    assert!(run.stdout.starts_with("0\n") && run.stderr.contains("no answer within the timeout"), "{run:?}");
    server.wait_until_idle("count");
}

#[test]
fn a_call_without_an_answer_prints_nothing_and_arrives() {
    let server = Serving::demo();
    let watch = Talking::start(&["watch", server.endpoint(), "a", "--count", "20"]);
    watch.note_with("watching a at ");
    for number in 0..20 {
        server.call(&["publish", "topic=a", &format!("payload:={number}"), "--notify"]).prints("");
    }
    let mut numbers: Vec<u64> = (0..20)
        .map(|_| serde_json::from_str::<Value>(&watch.line()).unwrap()["payload"].as_u64().unwrap())
        .collect();
    // Each had a session of its own, and those are served side by side.
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(watch.end().0, Some(0));
    // A one-way call does not learn the error of the method.
    server.call(&["err", "--notify"]).prints("");
    Serving::classic().call(&["err", "--notify"]).prints("");
    let envelope = server.call(&["err", "--notify", "--json"]).envelope();
    assert_eq!((&envelope["ok"], &envelope["payload"]), (&json!(true), &Value::Null));
    assert_eq!(run(&["call", ":1", "m", "--notify"]).code, Some(4));
}

#[test]
fn many_calls_are_summed_up() {
    for server in [Serving::demo(), Serving::classic()] {
        let run = server.call(&["sum", "[1,2]", "--count", "50"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "3\n"));
        assert!(run.stderr.starts_with("50 calls, ") && run.stderr.contains(" a second: p50 "), "{run:?}");
        for quantile in [", p90 ", ", p99 ", ", max "] {
            assert!(run.stderr.contains(quantile) && run.stderr.lines().count() == 1, "{run:?}");
        }
        let envelope = server.call(&["sum", "[1,2]", "--count", "50", "--json"]).envelope();
        assert_eq!((&envelope["payload"], &envelope["calls"]), (&json!(3), &json!(50)));
        let number = |key: &str| envelope[key].as_f64().unwrap_or_else(|| panic!("{key}: {envelope}"));
        assert!(number("p50_us") <= number("p90_us") && number("p90_us") <= number("p99_us"));
        assert!(number("p99_us") <= number("max_us") && number("calls_per_second") > 0.0);
    }
    // All on one session.
    let server = Serving::demo();
    server.call(&["sum", "[1]", "--count", "10"]);
    let stats: Value = serde_json::from_str(&server.run("stats", &[]).stdout).unwrap();
    assert_eq!((&stats["sessions"]["total"], &stats["methods"]["sum"]["calls"]), (&json!(2), &json!(10)));
    server.call(&["err", "--count", "5"]).fails(3, "error: generated error\n");
}

#[test]
fn a_signal_ends_many_calls_with_their_sum() {
    let server = Serving::start(&["127.0.0.1:0", "--demo", "-v"]);
    let call = Talking::start(&["call", server.endpoint(), "sleep", "0.001", "--count", "1000000000"]);
    server.wait_for_call("sleep");
    server.wait_for_call("sleep");
    call.signal("INT");
    let (code, lines, notes) = call.end();
    assert_eq!((code, lines.len(), notes.len()), (Some(130), 0, 1), "{notes:?}");
    assert!(notes[0].contains(" a second: p50 "), "{notes:?}");
}

#[test]
fn a_signal_is_told_to_a_server_with_sessions() {
    let (sender, told) = std::sync::mpsc::channel();
    let endpoint = fake(move |stream| {
        stream.write_all(&[hello(), session_packet(7, 0, 0, b"{}")].concat()).unwrap();
        // A server that answers a ping has taken the session in.
        assert_eq!(request(stream).0, 8);
        sender.send(None).unwrap();
        sender.send(Some(request(stream))).unwrap();
    });
    let call = Talking::start(&["call", &endpoint, "m"]);
    assert_eq!(told.recv_timeout(WATCHDOG).unwrap(), None);
    call.signal("INT");
    let (status, body) = told.recv_timeout(WATCHDOG).unwrap().unwrap();
    assert_eq!((status, body.as_str()), (6, "\u{1}\0\0\0{}"));
    assert_eq!(call.end().0, Some(130));
    // With the envelope there is one.
    let server = Serving::start(&["127.0.0.1:0", "--demo", "-v"]);
    let call = server.begin_call(&["sleep", "30", "--json"]);
    server.wait_for_call("sleep");
    call.signal("TERM");
    let run = call.end();
    let envelope = run.envelope();
    assert_eq!((run.code, &envelope["error"]["kind"]), (Some(143), &json!("cancelled")));
    server.wait_until_idle("sleep");
}

#[test]
fn a_signal_ends_a_call_whose_items_nobody_reads() {
    let server = Serving::demo();
    for options in [&[][..], &["--json"]] {
        let (_reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        let call = [&["call", server.endpoint(), "count", "n:=100000000", "--stream"], options].concat();
        let call = program(&call).stdout(writer).spawn().unwrap();
        wait_until("the call runs", || stats(server.endpoint())["methods"]["count"]["in_flight"] == 1);
        signal(call.id(), "TERM");
        assert_eq!(end_of(call), Some(143));
        server.wait_until_idle("count");
    }
}

#[test]
fn the_envelope_is_the_last_word_also_when_a_signal_comes_behind_it() {
    // The server keeps the connection, and the command looks at it for a moment.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let endpoint = fake(move |stream| {
        stream.write_all(&[hello(), session_packet(1, 0, 1, b"{\"payload\":5}")].concat()).unwrap();
        let _ = ended.recv_timeout(WATCHDOG);
    });
    let call = Talking::start(&["call", &endpoint, "m", "--json", "-v"]);
    let envelope: Value = serde_json::from_str(&call.line()).unwrap();
    call.signal("TERM");
    let (code, lines, _) = call.end();
    assert_eq!((&envelope["payload"], code, lines), (&json!(5), Some(0), Vec::new()));
    drop(end);
}

#[test]
fn the_connection_is_as_it_was_asked_for() {
    let (server, classic) = (Serving::demo(), Serving::classic());
    let has_hello = |run: &crate::support::Run| run.stderr.contains(" HELLO ");
    let run = server.call(&["sum", "[1]", "-v"]);
    assert!(has_hello(&run) && run.stdout == "1\n", "{run:?}");
    let run = server.call(&["sum", "[1]", "-v", "--session"]);
    assert!(has_hello(&run) && run.stderr.contains("\"$/ping\"") && run.stdout == "1\n", "{run:?}");
    let run = server.call(&["sum", "[1]", "-v", "--classic"]);
    assert!(!has_hello(&run) && run.stdout == "1\n", "{run:?}");
    let run = classic.call(&["sum", "[1]", "-v"]);
    assert!(!has_hello(&run) && run.stdout == "1\n", "{run:?}");
    for option in [&["--session"][..], &["--compress", "lz4"]] {
        classic.call(&[&["sum", "[1]"], option].concat()).fails(
            6,
            "error: the server holds no sessions: each of its connections is for one call\n  \
             help: the server speaks classic ProcBridge 1.1: call it without --session and --compress\n",
        );
    }
}

#[test]
fn a_large_payload_is_compressed_and_so_is_the_answer() {
    let server = Serving::demo();
    let payload = format!("\"{}\"", "abc".repeat(10_000));
    for codec in ["lz4", "zstd"] {
        let echo = program(&["call", server.endpoint(), "echo", "-", "--compress", codec, "-v"]);
        let run = run_with(echo, payload.as_bytes());
        assert_eq!((run.code, run.stdout.trim_end()), (Some(0), payload.as_str()));
        for line in [format!("REQUEST id=3 flags={codec} "), format!("GOOD id=3 flags={codec} ")] {
            assert!(run.stderr.contains(&line), "{line}: {}", run.stderr);
        }
        server.call(&["echo", "1", "--compress", codec]).prints("1\n");
    }
}

#[test]
fn entries_are_sent_beside_the_payload() {
    let server = Serving::demo();
    let run = server.call(&["echo", "1", "--meta", "a=x y", "--meta", "b:=[1.50]", "-v"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "1\n"));
    let sent = run.stderr.lines().find(|line| line.contains(" REQUEST ")).unwrap();
    assert!(sent.contains(r#""meta":{"a":"x y","b":[1.50]}"#), "{sent}");
}

#[test]
fn a_call_that_may_run_twice_is_sent_again() {
    for (option, code) in [(&[][..], Some(6)), (&["--idempotent"], Some(0))] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for bytes in [Vec::new(), packet(1, "{\"payload\":1}")] {
                let (mut stream, _) = listener.accept().unwrap();
                request(&mut stream);
                stream.write_all(&bytes).unwrap();
            }
        });
        assert_eq!(run(&[&["call", &endpoint, "m"], option].concat()).code, code);
    }
}

#[test]
fn meta_goes_as_it_stands() {
    let server = Serving::demo();
    for value in ["123456789012345678901", "1.5777777777770001", r#"{"b":1,"a":2,"a":3}"#, "1e400"] {
        let run = server.call(&["echo", "1", "--meta", "z=1", "--meta", &format!("x:={value}"), "-v"]);
        assert!(run.stderr.contains(&format!(r#""meta":{{"z":"1","x":{value}}}"#)), "{run:?}");
    }
}

//! `procbridge ping`, `info`, `list`, `describe` and `stats`.

use std::io::{Read, Write};

use crate::support::{
    Run, Serving, Talking, WATCHDOG, always, fake, hello, packet, request, run, session_packet,
};
use serde_json::{Value, json};

const METHODS: &str = "call_me\ncount\necho\nerr\npublish\nsleep\nsum\n";

fn parsed(run: &Run) -> Value {
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn a_ping_has_a_line_and_all_have_a_sum() {
    for server in [Serving::demo(), Serving::classic()] {
        let run = server.run("ping", &["--interval", "1ms"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        let lines: Vec<_> = run.stdout.lines().collect();
        assert_eq!(lines.len(), 5, "{run:?}");
        for (number, line) in (1..).zip(&lines[..4]) {
            let start = format!("answer from {}: seq={number} time=", server.endpoint());
            assert!(line.starts_with(&start) && line.ends_with('s'), "{line}");
        }
        assert!(lines[4].starts_with("4 pings, 4 answers: p50 ") && lines[4].contains(", p99 "), "{run:?}");
        let run = server.run("ping", &["-n", "50", "-i", "0s", "--json"]);
        let envelope = run.envelope();
        assert_eq!(
            (&envelope["payload"]["pings"], &envelope["payload"]["answers"]),
            (&json!(50), &json!(50))
        );
        assert!(envelope["payload"]["p99_us"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_threshold_that_is_missed_is_exit_8() {
    let server = Serving::demo();
    let run = server.run("ping", &["-n", "2", "-i", "0s", "--threshold", "1us"]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(8), 3), "{run:?}");
    assert!(
        run.stderr.starts_with("error: the p99 of ")
            && run.stderr.ends_with(" is over the threshold of 1.00 us\n")
    );
    let run = server.run("ping", &["-n", "2", "-i", "0s", "--threshold", "1us", "--json"]);
    let envelope = run.envelope();
    assert_eq!((run.code, &envelope["error"]["kind"]), (Some(8), &json!("threshold")));
    assert_eq!(envelope["error"]["data"]["answers"], 2);
    assert_eq!(server.run("ping", &["-n", "2", "-i", "0s", "--threshold", "30s"]).code, Some(0));
}

#[test]
fn a_signal_ends_pings_with_their_sum() {
    let server = Serving::demo();
    for (options, is_hung) in [(&[][..], false), (&["-v"], true)] {
        let ping = [&["ping", server.endpoint(), "-n", "1000", "-i", "1h"], options].concat();
        let ping = Talking::start(&ping);
        ping.line();
        // A server that does not close its end is waited for, with the packets that it may still send.
        if is_hung {
            server.signal("STOP");
        }
        ping.signal("INT");
        let (code, lines, notes) = ping.end();
        assert_eq!((code, lines.len(), notes.is_empty()), (Some(130), 1, !is_hung));
        assert!(lines[0].starts_with("1 ping, 1 answer: p50 "), "{lines:?}");
    }
}

#[test]
fn a_signal_ends_a_ping_that_is_not_answered_with_the_sum() {
    let answer = |number: u32| session_packet(1, 0, number, format!("{{\"payload\":{number}}}").as_bytes());
    for options in [&[][..], &["-v"]] {
        let (asks, asked) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let endpoint = fake(move |stream| {
            stream.write_all(&[hello(), answer(1)].concat()).unwrap();
            asks.send(request(stream)).unwrap();
            let _ = ended.recv_timeout(WATCHDOG);
        });
        let ping = Talking::start(&[&["ping", &endpoint, "-i", "0s", "--timeout", "none"], options].concat());
        ping.line();
        asked.recv_timeout(WATCHDOG).unwrap();
        ping.signal("INT");
        let (code, lines, _) = ping.end();
        assert_eq!((code, lines.len()), (Some(130), 1));
        assert!(lines[0].starts_with("2 pings, 1 answer: p50 "), "{lines:?}");
        drop(end);
    }
}

#[test]
fn pings_fail_as_calls_do() {
    run(&["ping", ":1"]).fails_with(4, "1 ping, 0 answers\n", "error: cannot connect to tcp:127.0.0.1:1: ");
    let server = Serving::demo();
    server.signal("STOP");
    let run = server.run("ping", &["--timeout", "100ms"]);
    run.fails_with(5, "1 ping, 0 answers\n", "error: no answer within the timeout of 100ms\n");
    server.signal("CONT");
}

#[test]
fn what_a_later_version_tells_besides_is_no_fault() {
    // Without the optional parts, and with unknown keys.
    let method = "{\"name\":\"a\",\"kind\":\"later\",\"since\":3}";
    let described =
        format!("{{\"payload\":{{\"name\":\"n\",\"new\":1,\"methods\":[{method}],\"protocol\":[]}}}}");
    let later = always(packet(1, &described));
    run(&["list", &later]).prints("a\n");
    assert_eq!(parsed(&run(&["describe", &later, "a"]))["since"], 3);
    assert_eq!(parsed(&run(&["info", &later]))["methods"], 1);
    let counted = "{\"payload\":{\"uptime_ms\":1,\"connections\":{\"open\":1,\"total\":1,\"lost\":2},\
        \"sessions\":{\"open\":0,\"total\":0},\"bytes\":{\"in\":1,\"out\":1},\"threads\":3,\
        \"methods\":{\"a\":{\"calls\":1,\"errors\":0,\"in_flight\":0,\"p50_us\":1,\"p90_us\":1,\"p99_us\":1,\"max_us\":1,\
        \"mean_us\":1}}}}";
    assert_eq!(parsed(&run(&["stats", &always(packet(1, counted))]))["threads"], 3);
}

#[test]
fn what_a_server_lacks_is_said_plainly() {
    let server = Serving::start(&["127.0.0.1:0", "--demo", "--no-describe", "--no-stats"]);
    let at = server.endpoint();
    let lacks = |run: Run, method: &str| {
        run.fails(
            3,
            &format!(
                "error: the server at {at} has no \"{method}\"\n  code: unknown_method\n  \
                 help: the server has sessions and answers calls; this method is disabled there\n"
            ),
        );
    };
    lacks(server.run("list", &[]), "$/describe");
    lacks(server.run("describe", &["sum"]), "$/describe");
    lacks(server.run("stats", &[]), "$/stats");

    // The older packages answer what their delegate makes of it: an error, or anything.
    for body in [
        "{\"message\":\"unknown method\"}",
        "{\"payload\":null}",
        "{\"payload\":{\"x\":1}}",
        "{\"payload\":5}",
    ] {
        let status = if body.contains("message") { 2 } else { 1 };
        let classic = always(packet(status, body));
        for (command, method) in [("list", "$/describe"), ("describe", "$/describe"), ("stats", "$/stats")] {
            let run = run(&[command, &classic]);
            assert_eq!(run.code, Some(3), "{run:?}");
            assert_eq!(
                run.stderr,
                format!(
                    "error: the server at tcp:{classic} speaks classic ProcBridge 1.1: it has no \"{method}\"\n  \
                     code: unknown_method\n  \
                     help: the server still answers calls: \"procbridge call tcp:{classic} METHOD\"\n"
                )
            );
        }
        let envelope = run(&["list", &classic, "--json"]).envelope();
        assert_eq!((&envelope["error"]["code"], &envelope["exit"]), (&json!("unknown_method"), &json!(3)));
        // It is there, and answers.
        let ping = run(&["ping", &classic, "-n", "1"]);
        assert_eq!((ping.code, ping.stderr.as_str()), (Some(0), ""), "{ping:?}");
        assert!(ping.stdout.contains(" (the server has no \"$/ping\")\n1 ping, 1 answer: "), "{ping:?}");
        let info = parsed(&run(&["info", &classic]));
        assert_eq!(
            (&info["protocol"], &info["codecs"], &info["methods"]),
            (&json!("classic"), &Value::Null, &Value::Null)
        );
    }
    // Other errors stay what they are.
    let busy = always(packet(2, "{\"message\":\"busy\",\"code\":\"overloaded\"}"));
    for args in [
        &["list", &busy][..],
        &["info", &busy],
        &["stats", &busy],
        &["watch", &busy, "*"],
        &["emit", &busy, "x", "1"],
        &["call", &busy, "x"],
        &["call", &busy, "x", "--session"],
        &["call", &busy, "x", "--stream"],
        &["call", &busy, "x", "--notify"],
    ] {
        run(args).fails(3, "error: busy\n  code: overloaded\n");
    }
    run(&["ping", &busy]).fails_with(3, "1 ping, 0 answers\n", "error: busy\n  code: overloaded\n");
    let envelope = run(&["call", &busy, "x", "--session", "--json"]).envelope();
    assert_eq!(
        (&envelope["error"]["code"], &envelope["error"]["outcome"]),
        (&json!("overloaded"), &json!("not_sent"))
    );
    let closes = fake(|stream| drop(stream.read(&mut [0; 4096])));
    let envelope = run(&["call", &closes, "pay", "1", "--session", "--json", "--timeout", "1s"]).envelope();
    assert_eq!(envelope["error"]["outcome"], "not_sent");
    for command in ["list", "stats", "info", "describe"] {
        assert_eq!(run(&[command, ":1"]).code, Some(4));
    }
    let foreign = fake(|stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap());
    let run = run(&["info", &foreign]);
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(
        run.stderr.ends_with("  help: another kind of server listens there; check the endpoint\n"),
        "{run:?}"
    );
}

#[test]
fn info_tells_what_the_server_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    let server = Serving::start(&["127.0.0.1:0", &path, "--demo", "--max-body", "1MiB"]);
    let info = parsed(&server.run("info", &[]));
    let expected = json!({
        "endpoint": server.endpoint(), "transport": "tcp", "peer": server.endpoint(), "protocol": "session",
        "version": "1.1", "name": "procbridge", "max_body": 1 << 20, "max_calls": 128, "stream_window": 64,
        "stream_bytes": 1 << 20, "codecs": ["lz4", "zstd"], "methods": 7,
        "protocol_methods": ["$/describe", "$/ping", "$/stats", "$/subscribe"],
    });
    assert_eq!(info, expected);
    let envelope = server.run("info", &["--json"]).envelope();
    assert_eq!(envelope["payload"], expected);
    let info = parsed(&run(&["info", &path]));
    assert_eq!((&info["transport"], &info["protocol"]), (&json!("unix"), &json!("session")));
    assert!(info["peer"].as_str().unwrap().starts_with("unix:uid="), "{info}");
    let classic = Serving::classic();
    let info = parsed(&classic.run("info", &[]));
    assert_eq!(
        (&info["protocol"], &info["max_calls"], &info["methods"]),
        (&json!("classic"), &Value::Null, &json!(7))
    );
}

#[test]
fn methods_are_listed_and_described() {
    for server in [Serving::demo(), Serving::classic()] {
        server.run("list", &[]).prints(METHODS);
        let envelope = server.run("list", &["--json"]).envelope();
        assert_eq!(envelope["payload"][1]["name"], "count");
        assert_eq!(envelope["payload"][1]["kind"], "stream");
        assert!(envelope["payload"].as_array().unwrap().iter().all(|method| method["doc"].is_string()));

        let all = server.run("describe", &[]);
        assert!(all.stdout.starts_with("{\n  \"name\": \"procbridge\",\n  \"methods\": [\n"), "{all:?}");
        assert_eq!(parsed(&all)["methods"].as_array().unwrap().len(), 7);
        let one = server.run("describe", &["sum"]);
        let described = parsed(&one);
        assert_eq!((&described["name"], &described["payload"]["type"]), (&json!("sum"), &json!("array")));
        assert!(one.stdout.lines().count() > 5);
        assert_eq!(server.run("describe", &["sum", "--compact"]).stdout.lines().count(), 1);
        assert_eq!(server.run("describe", &["sum", "--json"]).envelope()["payload"], described);
        let unknown = |name: &str, help: &str| {
            server.run("describe", &[name]).fails(
                3,
                &format!(
                    "error: the server at {} has no method {name:?}\n  code: unknown_method\n  help: {help}\n",
                    server.endpoint()
                ),
            );
        };
        unknown("smu", "did you mean \"sum\"?");
        unknown("x", &format!("\"procbridge list {}\" shows the methods", server.endpoint()));
    }
}

#[test]
fn counters_are_one_line_of_json_in_a_pipe() {
    let server = Serving::demo();
    server.call(&["sum", "[1]", "--count", "3"]);
    server.call(&["err"]);
    let run = server.run("stats", &[]);
    assert_eq!(run.stdout.lines().count(), 1);
    let stats = parsed(&run);
    assert_eq!(
        (&stats["methods"]["sum"]["calls"], &stats["methods"]["err"]["errors"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(server.run("stats", &["--json"]).envelope()["payload"]["methods"]["sum"]["calls"], 3);
}

#[test]
fn the_variable_is_the_default_endpoint() {
    let server = Serving::demo();
    let with = |args: &[&str]| server.run_by_variable(args);
    with(&["list"]).prints(METHODS);
    assert_eq!(parsed(&with(&["describe", "sum"]))["name"], "sum");
    assert_eq!(parsed(&with(&["describe"]))["name"], "procbridge");
    for command in ["info", "stats"] {
        parsed(&with(&[command]));
    }
    assert_eq!(with(&["ping", "-n", "1"]).code, Some(0));
    // A value that is no endpoint is a mistake, not something else.
    assert_eq!(with(&["list", "8000"]).code, Some(2));
}

#[test]
fn questions_have_a_time_limit() {
    let server = Serving::demo();
    server.signal("STOP");
    for command in ["list", "describe", "stats", "info"] {
        let run = server.run(command, &["--timeout", "100ms"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(5), ""), "{run:?}");
        assert!(run.stderr.ends_with("  help: raise --timeout; \"none\" waits without one\n"), "{run:?}");
    }
    server.signal("CONT");
}

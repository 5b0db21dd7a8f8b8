//! `procbridge watch` and `procbridge emit`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{
    Serving, Talking, always, end_of, fake, hello, packet, program, request, run, run_with, session_packet,
    wait_until,
};

/// Returns a program that watches, and will miss nothing from now on.
fn watching(endpoint: &str, args: &[&str]) -> Talking {
    let watch = Talking::start(&[&["watch", endpoint], args].concat());
    let note = watch.note();
    assert!(note.starts_with("watching ") && note.contains(" at "), "{note}");
    watch
}

#[test]
fn events_are_lines_of_json() {
    let server = Serving::demo();
    let watch = watching(server.endpoint(), &["build.*", "test", "--count", "4"]);
    server.run("emit", &["build.done", "42"]).prints("1\n");
    server.run("emit", &["other", "42"]).prints("0\n");
    server.run("emit", &["build.a.b", "job=nightly", "seconds:=1.50"]).prints("1\n");
    server.run("emit", &["test"]).prints("1\n");
    server.run("emit", &["test.more", "1"]).prints("0\n");
    run_with(program(&["emit", server.endpoint(), "test", "-"]), b" [ 1 ]\n").prints("1\n");
    assert_eq!(watch.line(), r#"{"topic":"build.done","payload":42}"#);
    assert_eq!(watch.line(), r#"{"topic":"build.a.b","payload":{"job":"nightly","seconds":1.50}}"#);
    assert_eq!(watch.line(), r#"{"topic":"test","payload":null}"#);
    assert_eq!(watch.line(), r#"{"topic":"test","payload":[1]}"#);
    // As many as were asked for.
    assert_eq!(watch.end(), (Some(0), Vec::new(), Vec::new()));
}

#[test]
fn the_variable_is_the_default_endpoint() {
    let server = Serving::demo();
    let with = |args: &[&str]| server.run_by_variable(args);
    with(&["emit", "a.b", "1"]).prints("0\n");
    with(&["emit", "a.b", "--json"]).envelope();
    assert_eq!(with(&["watch"]).code, Some(2));
    let mistaken = with(&["emit", "8000", "a", "1", "2"]);
    assert!(mistaken.stderr.contains("help: \"8000\" was read as the topic"), "{mistaken:?}");
}

#[test]
fn another_method_may_publish() {
    let server = Serving::demo();
    server.run("emit", &["a", "1", "--method", "echo"]).prints("{\"topic\":\"a\",\"payload\":1}\n");
    let without = always(packet(2, "{\"message\":\"no\",\"code\":\"unknown_method\"}"));
    run(&["emit", &without, "a"]).fails(
        3,
        "error: no\n  code: unknown_method\n  help: name the method that publishes with --method\n",
    );
    let envelope = run(&["emit", &without, "a", "--json"]).envelope();
    assert_eq!(envelope["error"]["code"], "unknown_method");
}

#[test]
fn a_lost_connection_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    let server = Serving::start(&[&path, "--demo"]);
    let watch = watching(&path, &["a"]);
    server.run("emit", &["a", "1"]).prints("1\n");
    assert_eq!(watch.line(), r#"{"topic":"a","payload":1}"#);
    for how in ["KILL", "TERM"] {
        let server = Serving::start(&[&format!("{path}.{how}"), "--demo"]);
        let path = server.endpoint().strip_prefix("unix:").unwrap().to_string();
        let watch = watching(&path, &["a"]);
        server.signal(how);
        let note = watch.note();
        assert!(note.starts_with("warn: ") && note.ends_with("; reconnecting"), "{note}");
        drop(server);
        let server = Serving::start(&[&path, "--demo"]);
        assert_eq!(watch.note(), "watching a again; events may have been missed");
        server.run("emit", &["a", "2"]).prints("1\n");
        server.run("emit", &["a", "3"]).prints("1\n");
        assert_eq!(watch.line(), r#"{"topic":"a","payload":2,"missed":"unknown"}"#);
        assert_eq!(watch.line(), r#"{"topic":"a","payload":3}"#);
        watch.signal("INT");
        assert_eq!(watch.end(), (Some(130), Vec::new(), Vec::new()));
    }
}

#[test]
fn what_was_lost_on_the_way_is_told() {
    let endpoint = fake(|stream| {
        stream.write_all(&hello()).unwrap();
        stream.write_all(&session_packet(1, 0, 1, b"{}")).unwrap();
        request(stream);
        for item in ["{}", r#"{"payload":{"topic":"a","payload":1,"dropped":3}}"#] {
            stream.write_all(&session_packet(4, 0, 3, item.as_bytes())).unwrap();
        }
        request(stream);
    });
    let watch = watching(&endpoint, &["a", "-n", "1"]);
    assert_eq!(watch.line(), r#"{"topic":"a","payload":1,"missed":3}"#);
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn a_server_without_events_is_told_from_one_that_is_not_there() {
    let classic = Serving::classic();
    let at = classic.endpoint();
    classic.run("watch", &["a"]).fails(
        3,
        &format!(
            "error: the server at {at} speaks classic ProcBridge 1.1: it has no \"$/subscribe\"\n  \
             code: unknown_method\n  help: the server still answers calls: \"procbridge call {at} METHOD\"\n"
        ),
    );
    // One with sessions whose every method is a command's.
    let server = Serving::start(&["127.0.0.1:0", "--exec", "true"]);
    server.run("watch", &["a"]).fails(
        3,
        &format!(
            "error: the server at {} has no events: it has no \"$/subscribe\"\n  code: unknown_method\n",
            server.endpoint()
        ),
    );
    let envelope = classic.run("watch", &["a", "--json"]).envelope();
    assert_eq!((&envelope["error"]["code"], &envelope["exit"]), (&"unknown_method".into(), &3.into()));
    assert_eq!(run(&["watch", ":1", "a"]).code, Some(4));
    assert_eq!(run(&["emit", ":1", "a"]).code, Some(4));
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    // One takes the connection, the other says that it holds a session too.
    let greeting = fake(|stream| {
        stream.write_all(&hello()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for endpoint in [at, greeting] {
        run(&["watch", &endpoint, "a", "--connect-timeout", "200ms"])
            .fails(5, "error: no answer within the timeout of 200ms\n  help: raise --connect-timeout\n");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let server = Serving::demo();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program(&["watch", server.endpoint(), "a"]);
    command.stdout(writer).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    // The first event ends it, if it has not found before that its reader has gone.
    wait_until("the watch is in force or over", || {
        child.try_wait().unwrap().is_some() || server.run("emit", &["a"]).stdout == "1\n"
    });
    assert_eq!(end_of(child), Some(0));
}

//! `procbridge serve`: where it listens, what the demo answers, how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{
    Run, Running, Serving, end_of, fill, first_line, program, program_after, run, run_with, signal, stats,
    wait_until,
};
use serde_json::json;

#[test]
fn several_endpoints_are_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/app.sock", directory.path().display());
    let server = Serving::start(&["127.0.0.1:0", &format!("{path}?mode=0660"), "localhost:0", "--demo"]);
    let [tcp, unix, names @ ..] = &server.endpoints[..] else { panic!("{:?}", server.endpoints) };
    assert!(tcp.starts_with("tcp:127.0.0.1:") && !tcp.ends_with(":0"), "{tcp}");
    assert_eq!(*unix, format!("unix:{path}?mode=0660"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // With IPv6 or without.
    assert!((1..=2).contains(&names.len()), "{names:?}");
    for endpoint in [&server.endpoints[..], std::slice::from_ref(&path)].concat() {
        run(&["call", &endpoint, "sum", "[1,2]"]).prints("3\n");
    }
    server.signal("TERM");
    assert_eq!(server.end().0, Some(0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_variable_is_the_default_endpoint() {
    let mut command = program(&["serve", "--demo", "--max-concurrent-calls", "x"]);
    command.env("PROCBRIDGE_ENDPOINT", "127.0.0.1:0");
    assert_eq!(run_with(command, b"").code, Some(2));
    let mut command = program(&["serve", "--demo"]);
    command.env("PROCBRIDGE_ENDPOINT", "8000");
    run_with(command, b"").fails(
        2,
        "error: invalid endpoint \"8000\": no port, did you mean \":8000\"?\n  \
         help: it is the value of PROCBRIDGE_ENDPOINT\n",
    );
    run(&["serve", "--demo"]).fails(
        2,
        "error: no endpoint to listen on\n  help: it is an argument such as :8000 or ./app.sock\n  \
         help: PROCBRIDGE_ENDPOINT holds the default\n",
    );
}

#[test]
fn where_it_cannot_listen_it_says_why() {
    let server = Serving::demo();
    run(&["serve", server.endpoint(), "--demo"]).fails(
        4,
        &format!(
            "error: cannot listen on {}: another server listens there\n  \
             help: use another port; with port 0 the system chooses a free one\n",
            server.endpoint()
        ),
    );
    let remote = run(&["serve", "0.0.0.0:0", "--demo"]);
    assert_eq!(remote.code, Some(7), "{remote:?}");
    assert!(
        remote.stderr.ends_with(
            "\n  help: set --token to ask callers for a secret, or --allow-remote to serve without one\n"
        ),
        "{remote:?}"
    );
    let allowed = Serving::start(&["0.0.0.0:0", "--demo", "--allow-remote"]);
    let port = allowed.endpoint().rsplit(':').next().unwrap();
    run(&["call", &format!(":{port}"), "sum", "[1]"]).prints("1\n");
    run(&["serve", "/no/such/directory/a.sock", "--demo"]).fails(
        4,
        "error: cannot listen on unix:/no/such/directory/a.sock: no directory /no/such/directory\n",
    );
    // One that fails takes back those that did not.
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    assert_eq!(run(&["serve", &path, server.endpoint(), "--demo"]).code, Some(4));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_answers() {
    let server = Serving::demo();
    server.call(&["echo", "{\"b\":[1.0],\"a\":null}"]).prints("{\"b\":[1.0],\"a\":null}\n");
    server.call(&["sum", "[1.5,2]"]).prints("3.5\n");
    server.call(&["sum", "[]"]).prints("0\n");
    server.call(&["sleep", "0.001"]).prints("null\n");
    for wrong in ["-1", "null", "\"1\"", "1e300"] {
        let refused = server.call(&["sleep", wrong]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(refused.stderr.ends_with("  code: invalid_payload\n"), "{refused:?}");
    }
    for wrong in ["null", "[1,\"2\"]", "{\"a\":1}", "[1e999]"] {
        let refused = server.call(&["sum", wrong]);
        assert!(refused.stderr.ends_with("  code: invalid_payload\n"), "{refused:?}");
    }
}

#[test]
fn the_demo_calls_its_caller_back() {
    let server = Serving::demo();
    let client = procbridge::Client::new(server.endpoint()).unwrap();
    client.serve(procbridge::Router::new().method("double", |n: u32| 2 * n)).unwrap();
    let doubled: u32 = client.request("call_me", &json!({"method": "double", "payload": 21})).unwrap();
    assert_eq!(doubled, 42);
    let refused = client.request::<()>("call_me", &json!({"method": "half"})).unwrap_err();
    assert_eq!(refused.to_string(), "unknown method \"half\"");
    // The command line serves nothing, and a classic caller cannot be called.
    server.call(&["call_me", "method=m"]).fails(3, "error: the other side of the session takes no calls\n");
    server
        .call(&["call_me", "method=m", "--classic"])
        .fails(3, "error: the caller holds no session, so it cannot be called\n");
    for wrong in ["null", "{}", "{\"method\":1}"] {
        let refused = server.call(&["call_me", wrong]);
        assert!(
            refused.code == Some(3) && refused.stderr.ends_with("  code: invalid_payload\n"),
            "{refused:?}"
        );
    }
}

#[test]
fn the_demo_counts_and_publishes() {
    let server = Serving::demo();
    server.call(&["publish", "topic=a"]).prints("0\n");
    for (method, wrong) in [("count", "{}"), ("count", "{\"n\":-1}"), ("publish", "{}"), ("publish", "[1]")] {
        let refused = server.call(&[method, wrong, "--stream"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(3), ""), "{refused:?}");
        assert!(refused.stderr.ends_with("  code: invalid_payload\n"), "{refused:?}");
    }
}

#[test]
fn what_is_switched_off_is_not_there() {
    let server =
        Serving::start(&["127.0.0.1:0", "--exec", "echo 1", "--no-describe", "--no-stats", "--no-sessions"]);
    // They are methods like any, and the command answers all.
    server.call(&["$/describe"]).prints("1\n");
    server.call(&["$/stats"]).prints("1\n");
    server.call(&["$/ping", "5"]).prints("5\n");
    assert_eq!(server.call(&["$/ping", "--session"]).code, Some(6));
    let server = Serving::start(&["127.0.0.1:0", "--exec", "echo 1"]);
    server.call(&["m", "--session"]).prints("1\n");
    server.run("list", &[]).prints("");
}

#[test]
fn limits_are_the_servers() {
    let server =
        Serving::start(&["127.0.0.1:0", "--demo", "-v", "--max-body", "1KiB", "--max-concurrent-calls", "1"]);
    server
        .call(&["echo", &format!("\"{}\"", "x".repeat(2000))])
        .fails(3, "error: body of 2030 B exceeds the limit of 1024 B (max_body)\n  code: too_large\n");
    let call = server.begin_call(&["sleep", "30", "--timeout", "none"]);
    server.wait_for_call("sleep");
    server.call(&["sum", "[1]"]).fails(
        3,
        "error: the server has reached its limit of calls in flight (max_concurrent_calls = 1)\n  code: overloaded\n",
    );
    drop(server);
    assert_eq!(call.end().code, Some(6));
}

#[test]
fn explicit_null_writes_the_key() {
    for (options, body) in [(&[][..], "{}"), (&["--explicit-null"], "{\"payload\":null}")] {
        let server = Serving::start(&[&["127.0.0.1:0", "--demo"], options].concat());
        let address = server.endpoint().strip_prefix("tcp:").unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(crate::support::WATCHDOG)).unwrap();
        std::io::Write::write_all(&mut stream, &crate::support::packet(0, "{}")).unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
        assert_eq!(answer, crate::support::packet(1, body));
    }
}

/// Returns a server with one slow call in flight.
fn busy(options: &[&str]) -> (Serving, Running) {
    let server = Serving::start(&[&["127.0.0.1:0", "--demo", "--verbose"], options].concat());
    let call = server.begin_call(&["sleep", "30"]);
    server.wait_for_call("sleep");
    (server, call)
}

#[test]
fn a_term_signal_lets_calls_finish() {
    for name in ["TERM", "INT", "HUP", "QUIT"] {
        let server = Serving::start(&["127.0.0.1:0", "--demo", "--verbose"]);
        let call = server.begin_call(&["sleep", "0.5"]);
        server.wait_for_call("sleep");
        server.signal(name);
        assert_eq!(
            server.line(),
            "shutting down: calls in flight may finish within 10 s; another signal ends them"
        );
        assert_eq!(server.call(&["sum", "[1]"]).code, Some(4));
        call.end().prints("null\n");
        assert_eq!(server.end(), (Some(0), Vec::new()));
    }
}

#[test]
fn a_server_that_is_to_outlive_its_terminal_does() {
    let server = Serving::start_as(program_after("trap '' HUP", &["serve", "127.0.0.1:0", "--demo"]));
    server.signal("HUP");
    server.call(&["sum", "[1]"]).prints("1\n");
    server.signal("TERM");
    let (code, lines) = server.end();
    assert!(code == Some(0) && lines.len() <= 1, "{code:?} {lines:?}");
}

#[test]
fn a_signal_that_comes_early_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    for _ in 0..20 {
        let mut serve = program(&["serve", path.to_str().unwrap(), "--demo"]);
        let server = serve.stderr(Stdio::null()).spawn().unwrap();
        wait_until("there is a socket", || path.exists());
        signal(server.id(), "TERM");
        assert_eq!(end_of(server), Some(0));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn calls_that_take_too_long_to_finish_are_cancelled() {
    let (server, call) = busy(&["--drain", "50ms"]);
    server.signal("TERM");
    cancelled(call.end());
    let (code, lines) = server.end();
    assert_eq!(code, Some(143));
    assert_eq!(lines.last().unwrap(), "warn: calls were still in flight after the time of --drain");
}

#[test]
fn a_second_signal_ends_at_once() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131)] {
        let (server, call) = busy(&["--drain", "1h"]);
        server.signal(signal);
        server.line();
        server.signal(signal);
        cancelled(call.end());
        assert_eq!(server.end().0, Some(code));
    }
}

#[test]
fn a_server_whose_standard_error_nobody_reads_ends_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for options in [&[][..], &["-v"]] {
        let path = format!("{}/a.sock", directory.path().display());
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = program(&[&["serve", &path, "--demo", "--drain", "1h"], options].concat());
        let server = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
        let (_, _reader) = first_line(reader);
        fill(&writer);
        let call = Running::start(program(&["call", &path, "sleep", "30"]), b"");
        wait_until("the call runs", || stats(&path)["methods"]["sleep"]["in_flight"] == 1);
        signal(server.id(), "TERM");
        // One that comes before the signal is taken may wait for the log like the other.
        let call_again = ["call", &path, "sum", "[1]", "--timeout", "1s"];
        wait_until("the server stops", || run(&call_again).code == Some(4));
        signal(server.id(), "TERM");
        cancelled(call.end());
        // One that talks a lot may wait for its reader. It is ended without a word.
        signal(server.id(), "TERM");
        assert_eq!(end_of(server), Some(143));
        let _ = fs::remove_file(&path);
    }
}

#[track_caller]
fn cancelled(run: Run) {
    run.fails(3, "error: the server stopped before the method finished\n  code: cancelled\n");
}

#[test]
fn warnings_are_shown_and_details_with_verbose() {
    for (options, debug) in [(&[][..], 0), (&["-v"], 2)] {
        let server = Serving::start(&[&["127.0.0.1:0", "--demo", "--timeout", "20ms"], options].concat());
        let address = server.endpoint().strip_prefix("tcp:").unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap_or(0), 0);
        assert_eq!(server.call(&["sleep", "1"]).code, Some(3));
        server.signal("TERM");
        let (code, lines) = server.end();
        assert_eq!(code, Some(0));
        let count = |label: &str| lines.iter().filter(|line| line.starts_with(label)).count();
        assert_eq!((count("debug: "), count("warn: ")), (debug, 1), "{lines:?}");
    }
}

//! `procbridge call`: what may be given, what is printed, and how every failure looks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Running, Serving, fake, lying, packet, program, run, run_with};
use serde_json::{Value, json};

const TEXT: &str = r#"{"z":18446744073709551617,"a":1.10,"e":1E400,"é":"\u00e9\ud800","n":[],"z":null}"#;

#[test]
fn json_text_goes_both_ways_untouched() {
    let server = Serving::demo();
    server.call(&["echo", TEXT]).prints(&format!("{TEXT}\n"));
    server.call(&["echo", " [ 1 ,\n2 ] "]).prints("[1,2]\n");
    server.call(&["echo", "-1.50"]).prints("-1.50\n");
    server.call(&["echo", "null"]).prints("null\n");
    server.call(&["echo"]).prints("null\n");
    server.call(&["sum", "[1,2,3,4]"]).prints("10\n");
    server.call(&["sum", "[9007199254740993,18446744073709551616]"]).prints("18455751272964292609\n");
    // Floats are read and written to the last bit.
    for number in ["9007199254740991.0", "1.5777777777770001", "117.63331139400017", "5e-324", "-0.0"] {
        server.call(&["sum", &format!("[{number}]")]).prints(&format!("{number}\n"));
    }
    server.call(&["no such method"]).prints("null\n");
    server.call(&["--no-method"]).prints("null\n");
    server.call(&["--no-method", "[1]"]).prints("null\n");
}

#[test]
fn a_payload_comes_from_standard_input_and_from_files() {
    let server = Serving::demo();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.json");
    fs::write(&path, format!("  {TEXT}\n")).unwrap();
    let path = path.to_str().unwrap();
    server.call(&["echo", &format!("@{path}")]).prints(&format!("{TEXT}\n"));
    let echo = || program(&["call", server.endpoint(), "echo", "-"]);
    run_with(echo(), TEXT.as_bytes()).prints(&format!("{TEXT}\n"));
    run_with(echo(), b" \n").fails(
        2,
        "error: standard input is empty\n  \
         help: a call without a payload has no argument after the method\n",
    );
    run_with(echo(), b"[1,\n 2,\n x]")
        .fails(2, "error: standard input is not JSON: expected value at line 3, column 2, here: x]\n");
    run_with(echo(), b"\"\xff\"")
        .fails(2, "error: standard input is not UTF-8: invalid sequence at byte 1\n");
    run_with(program(&["call", server.endpoint(), "echo", "-", "--max-body", "4"]), b"[1,2]").fails(
        2,
        "error: standard input exceeds the limit of 4 B\n  \
         help: raise --max-body; the server has a limit of its own\n",
    );
    server.call(&["echo", "@no/such"]).fails(2, "error: cannot read no/such: no such file or directory\n");
    // A device that never ends is read as far as the limit.
    assert_eq!(server.call(&["echo", "@/dev/zero", "--max-body", "1MiB"]).code, Some(2));
}

#[test]
fn pairs_make_an_object_in_their_order() {
    let server = Serving::demo();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("note.txt");
    fs::write(&path, "a \"note\"\n").unwrap();
    let (text, raw) = (format!("t=@{}", path.display()), format!("r:=@{}", path.display()));
    server
        .call(&["echo", "b=x=y z", "a:=1.50", "é=", "n:=null"])
        .prints("{\"b\":\"x=y z\",\"a\":1.50,\"é\":\"\",\"n\":null}\n");
    server.call(&["echo", "k=v"]).prints("{\"k\":\"v\"}\n");
    server.call(&["echo", &text]).prints("{\"t\":\"a \\\"note\\\"\\n\"}\n");
    fs::write(&path, " [1, 2]\n").unwrap();
    server.call(&["echo", &raw]).prints("{\"r\":[1,2]}\n");
    server.call(&["echo", "a=1", "a=2"]).fails(2, "error: the key \"a\" is given twice\n");
    server.call(&["echo", "a:=x y"]).fails(
        2,
        "error: the value of \"a\" is not JSON: expected value at column 1, here: x y\n  \
         help: a string is written 'a=x y'\n",
    );
    server.call(&["echo", "a=1", "b"]).fails(
        2,
        "error: the argument \"b\" is neither KEY=STRING nor KEY:=JSON\n  \
         help: JSON is one argument; several arguments are pairs that make an object\n",
    );
    server.call(&["echo", "[1,", "2]"]).fails(
        2,
        "error: the argument \"[1,\" is neither KEY=STRING nor KEY:=JSON\n  \
         help: JSON is one argument, quoted for the shell: '[1, 2]'\n",
    );
}

#[test]
fn a_word_that_is_not_json_is_told_where_and_what_to_write() {
    let server = Serving::demo();
    server.call(&["echo", "hello"]).fails(
        2,
        "error: the payload is not JSON: expected value at column 1, here: hello\n  \
         help: a string is written '\"hello\"'\n",
    );
    server.call(&["echo", "[1 2]"]).fails(
        2,
        "error: the payload is not JSON: expected `,` or `]` at column 4, here: 2]\n  \
         help: JSON is one argument; quote it for the shell, as in '{\"key\":\"value\"}'\n",
    );
    server.call(&["echo", "http://a/?b=c"]).fails(
        2,
        "error: the payload is not JSON: expected value at column 1, here: http://a/?b=c\n  \
         help: a string is written '\"http://a/?b=c\"'\n",
    );
    let cut = server.call(&["echo", "{\"a\": [1"]);
    assert!(cut.stderr.starts_with("error: the payload is not JSON: it ends inside a list\n"), "{cut:?}");
    let long = server.call(&["echo", &format!("1 {}", "é".repeat(100))]);
    assert!(long.stderr.contains(&format!("at column 3, here: {}...\n", "é".repeat(24))), "{long:?}");
    assert_eq!((cut.code, long.code), (Some(2), Some(2)));
}

#[test]
fn a_result_is_printed_as_it_was_asked_for() {
    let server = Serving::demo();
    let pretty = "{\n  \"a\": [\n    1.0,\n    {}\n  ],\n  \"b\": \"x  y\"\n}\n";
    server.call(&["echo", "--pretty", r#"{"a":[1.0,{}],"b":"x  y"}"#]).prints(pretty);
    server.call(&["echo", "--compact", pretty]).prints("{\"a\":[1.0,{}],\"b\":\"x  y\"}\n");
    server.call(&["echo", "-r", r#""a\n\"b\"""#]).prints("a\n\"b\"\n");
    server.call(&["echo", "--raw", "[\"a\"]"]).prints("[\"a\"]\n");
    server.call(&["echo", "-r", "null"]).prints("null\n");
    // Half a surrogate pair is no text.
    server.call(&["echo", "-r", r#""\ud800""#]).prints("\"\\ud800\"\n");
    // Options may stand anywhere.
    run(&["call", "-r", server.endpoint(), "--timeout", "5s", "echo", "\"x\""]).prints("x\n");
}

#[test]
fn the_envelope_is_one_line_for_success() {
    let server = Serving::demo();
    let mut envelope = server.call(&["--json", "echo", "[1,\n {\"b\": 1, \"a\": \"x\"}]"]);
    assert!(envelope.stdout.starts_with(r#"{"ok":true,"payload":[1,{"b":1,"a":"x"}],"elapsed_us":"#));
    let value = envelope.envelope();
    assert!(value["elapsed_us"].as_u64().is_some());
    assert_eq!(envelope.code, Some(0));
    envelope = server.call(&["--json", "nothing"]);
    assert!(envelope.stdout.starts_with(r#"{"ok":true,"payload":null,"elapsed_us":"#));
}

#[track_caller]
fn failed(args: &[&str], code: i32, kind: &str, outcome: &str) -> Value {
    let run = run(&[&["call", "--json"], args].concat());
    let mut value = run.envelope();
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(value["elapsed_us"].as_u64().is_some());
    let error = value["error"].take();
    assert_eq!((&value["ok"], &value["exit"]), (&json!(false), &json!(code)));
    assert_eq!((&error["kind"], &error["outcome"]), (&json!(kind), &json!(outcome)), "{error}");
    error
}

#[test]
fn the_envelope_is_one_line_for_every_failure() {
    let server = Serving::demo();
    let at = server.endpoint();
    let error = failed(&[at, "err"], 3, "remote", "replied");
    assert_eq!(
        (&error["message"], &error["code"], &error["data"]),
        (&json!("generated error"), &Value::Null, &Value::Null)
    );
    let error = failed(&[at, "sum", "1"], 3, "remote", "replied");
    assert_eq!(error["code"], json!("invalid_payload"));
    let data = r#"{"message":"no\nway","code":"a.b","data":{"x": [1, 2]}}"#;
    let error = failed(&[&lying(packet(2, data)), "m"], 3, "remote", "replied");
    assert_eq!(
        (&error["message"], &error["code"], &error["data"]),
        (&json!("no\nway"), &json!("a.b"), &json!({"x": [1, 2]}))
    );
    failed(&["127.0.0.1:1", "m"], 4, "connect", "not_sent");
    failed(&[&lying(b"HTTP/1.1 400".to_vec()), "m"], 6, "protocol", "unknown");
    failed(&[&lying(Vec::new()), "m"], 6, "disconnected", "unknown");
    failed(
        &[&lying(packet(1, "{\"payload\":\"123456\"}")), "m", "--max-body", "16"],
        6,
        "too_large",
        "unknown",
    );
    failed(&["8000", "m"], 2, "invalid_endpoint", "not_sent");
    failed(&[at, "echo", "x"], 2, "usage", "not_sent");
    failed(&[at, "echo", "--tiemout", "1s"], 2, "usage", "not_sent");
    failed(&[at, &"m".repeat(300)], 2, "invalid_input", "not_sent");
    failed(&[at, "echo", "\"0123456789\"", "--max-body", "16"], 2, "invalid_input", "not_sent");
}

#[test]
fn the_variable_is_the_default_endpoint() {
    let server = Serving::demo();
    let with = |value: &str, args: &[&str]| {
        let mut command = program(&[&["call"], args].concat());
        command.env("PROCBRIDGE_ENDPOINT", value);
        run_with(command, b"")
    };
    with(server.endpoint(), &["sum", "[1,2]"]).prints("3\n");
    with(server.endpoint(), &["echo", "a=1", "b=2"]).prints("{\"a\":\"1\",\"b\":\"2\"}\n");
    with(server.endpoint(), &["echo", "-5"]).prints("-5\n");
    with(server.endpoint(), &["--no-method"]).prints("null\n");
    with(server.endpoint(), &["--no-method", "1"]).prints("null\n");
    // An endpoint that is given wins.
    with("127.0.0.1:1", &[server.endpoint(), "sum", "[1,2]"]).prints("3\n");
    with("8000", &["sum"]).fails(
        2,
        "error: invalid endpoint \"8000\": no port, did you mean \":8000\"?\n  \
         help: it is the value of PROCBRIDGE_ENDPOINT\n",
    );
    let mistaken = with(server.endpoint(), &["8000", "sum", "[1]"]);
    assert!(mistaken.stderr.contains("help: \"8000\" was read as the method"), "{mistaken:?}");
    // Empty is the same as unset.
    assert_eq!(with("", &["sum"]).code, Some(2));
}

#[test]
fn what_is_missing_is_named() {
    let usage =
        "it is \"procbridge call ENDPOINT METHOD [PAYLOAD]\", as in \"procbridge call :8000 sum '[1,2]'\"";
    run(&["call"]).fails(2, &format!("error: no endpoint and no method\n  help: {usage}\n"));
    run(&["call", ":8000"]).fails(
        2,
        &format!("error: no method to call at tcp:127.0.0.1:8000\n  help: {usage}\n  help: --no-method calls without one\n"),
    );
    run(&["call", "sum"]).fails(
        2,
        "error: invalid endpoint \"sum\": no port; write \"sum:PORT\", or \"./sum\" for a Unix socket\n  \
         help: the first argument is the endpoint, unless PROCBRIDGE_ENDPOINT holds one\n",
    );
    run(&["call", ":0", "sum"]).fails(
        2,
        "error: cannot connect to tcp:127.0.0.1:0: port 0 is for servers, which are given a free port\n",
    );
}

#[test]
fn a_servers_error_is_exit_3_and_its_words_stay_on_a_line() {
    let server = Serving::demo();
    server.call(&["err"]).fails(3, "error: generated error\n");
    server.call(&["sum", "{}"]).fails(3, "error: expected an array of numbers\n  code: invalid_payload\n");
    let body = r#"{"message":"two\nlines \u001b[31m","code":"x.y","data": {"b": 1, "a": 2}}"#;
    run(&["call", &lying(packet(2, body)), "m"])
        .fails(3, "error: two\\nlines \\u{1b}[31m\n  code: x.y\n  data: {\"b\":1,\"a\":2}\n");
    run(&["call", &lying(packet(2, "{}")), "m"]).fails(3, "error: unknown server error\n");
    // The server's own limit is an answer like any other.
    let hasty = Serving::start(&["127.0.0.1:0", "--demo", "--timeout", "50ms"]);
    hasty
        .call(&["sleep", "30"])
        .fails(3, "error: the method did not finish within its timeout\n  code: timeout\n");
}

#[test]
fn nobody_there_is_exit_4() {
    let refused = run(&["call", ":1", "m"]);
    refused.fails(
        4,
        "error: cannot connect to tcp:127.0.0.1:1: connection refused, no server answers there\n  \
         help: \"procbridge serve tcp:127.0.0.1:1 --demo\" starts a demo server there\n",
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stale.sock");
    drop(UnixListener::bind(&path).unwrap());
    let path = path.to_str().unwrap();
    let stale = run(&["call", path, "m"]);
    assert_eq!(stale.code, Some(4));
    assert!(stale.stderr.contains("\n  help: the server has ended and left its socket file; "), "{stale:?}");
    run(&["call", "/no/such/directory/a.sock", "m"]).fails(
        4,
        "error: cannot connect to unix:/no/such/directory/a.sock: no such file\n  \
         help: there is no directory /no/such/directory\n",
    );
    run(&["call", "unix:@procbridge-test-nobody", "m"]).fails(
        4,
        "error: cannot connect to unix:@procbridge-test-nobody: connection refused, no server answers there\n  \
         help: \"procbridge serve unix:@procbridge-test-nobody --demo\" starts a demo server there\n",
    );
    let plain = directory.path().join("plain");
    fs::write(&plain, "").unwrap();
    for path in [&*plain, directory.path()] {
        let path = path.display();
        run(&["call", &format!("unix:{path}"), "m"]).fails(
            4,
            &format!(
                "error: cannot connect to unix:{path}: connection refused, no server answers there\n  \
                 help: {path} is not a socket\n"
            ),
        );
    }
}

#[test]
fn a_socket_with_nearly_the_same_name_is_offered() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{}/{name}", directory.path().display());
    let missing = format!("error: cannot connect to unix:{}: no such file\n", path("ap.sock"));
    let start =
        format!("  help: \"procbridge serve unix:{} --demo\" starts a demo server there\n", path("ap.sock"));
    run(&["call", &path("ap.sock"), "m"]).fails(4, &(missing.clone() + &start));
    // Neither what is too different, nor what has no owner, nor what is no socket.
    drop(UnixListener::bind(path("app2.sock")).unwrap());
    fs::write(path("apo.sock"), "").unwrap();
    let different = UnixListener::bind(path("database.sock")).unwrap();
    run(&["call", &path("ap.sock"), "m"]).fails(4, &(missing.clone() + &start));
    // Another program's, which is not connected to for it.
    let foreign = UnixListener::bind(path("appl.sock")).unwrap();
    let help = format!("  help: did you mean {}, where a server listens?\n", path("appl.sock"));
    run(&["call", &path("ap.sock"), "m"]).fails(4, &(missing.clone() + &help));
    foreign.set_nonblocking(true).unwrap();
    assert_eq!(foreign.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // And the best of all: ours.
    let server = Serving::start(&[&path("app.sock"), "--demo"]);
    let help = format!("  help: did you mean {}, where a server listens?\n", path("app.sock"));
    run(&["call", &path("ap.sock"), "m"]).fails(4, &(missing + &help));
    let mut nearby = program(&["call", "unix:ap.sock", "m"]);
    nearby.current_dir(directory.path());
    let nearby = run_with(nearby, b"");
    assert!(
        nearby.stderr.ends_with("help: did you mean ./app.sock, where a server listens?\n"),
        "{nearby:?}"
    );
    drop((server, different));
}

/// Returns the program as a user who may do nothing, if the tests run as one who may do everything.
fn powerless(directory: &Path, args: &[&str]) -> Option<Command> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    // Where the program was built may be out of that user's reach. Another process copies it. A file that this one has
    // written to may still be open in a child that another test begins, and then it cannot be run.
    let copy = directory.join("procbridge");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_procbridge")).arg(&copy).status().unwrap().success());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.args(args).uid(65534).gid(65534).current_dir("/");
    is_root.then_some(command)
}

#[test]
fn a_socket_that_may_not_be_used_is_exit_7() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    let server = Serving::start(&[&path, "--demo"]);
    let command = powerless(directory.path(), &["call", &path, "m"]).unwrap_or_else(|| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        program(&["call", &path, "m"])
    });
    run_with(command, b"").fails(
        7,
        &format!(
            "error: cannot connect to unix:{path}: permission denied\n  \
             help: \"ls -l {path}\" shows the socket's owner and mode\n"
        ),
    );
    drop(server);
}

#[test]
fn a_server_that_denies_a_user_is_exit_3() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("unix:@procbridge-test-{}", std::process::id());
    let Some(command) = powerless(directory.path(), &["call", &name, "sum", "[1]"]) else { return };
    let server = Serving::start(&[&name, "--demo"]);
    let denied = run_with(command, b"");
    denied.fails(
        3,
        "error: only the server's own user may connect (allow_any_user)\n  code: denied\n  \
         help: if the server asks for a token, set PROCBRIDGE_TOKEN or --token\n",
    );
    drop(server);
    let _server = Serving::start(&[&name, "--demo", "--allow-any-user"]);
    let command = powerless(directory.path(), &["call", &name, "sum", "[1]"]).unwrap();
    run_with(command, b"").prints("1\n");
}

#[test]
fn a_time_limit_is_exit_5() {
    // Either may look at the clock first: the server that got the timeout, or the caller.
    let server = Serving::demo();
    for _ in 0..5 {
        let slow = server.call(&["sleep", "30", "--timeout", "50ms"]);
        assert_eq!(slow.code, Some(5), "{slow:?}");
        assert!(slow.stderr.starts_with("error: no answer within the timeout"), "{slow:?}");
        assert!(slow.stderr.ends_with("  help: raise --timeout; \"none\" waits without one\n"));
    }
    // A server that says nothing.
    let silent = fake(|stream| drop(stream.read_to_end(&mut Vec::new())));
    run(&["call", &silent, "m", "--timeout", "100ms"]).fails(
        5,
        "error: no answer within the timeout of 100ms\n  \
         help: raise --timeout; \"none\" waits without one\n",
    );
    // A server that has been stopped in the middle of its life: the system still accepts for it.
    server.signal("STOP");
    assert_eq!(server.call(&["sum", "[1]", "--timeout", "100ms"]).code, Some(5));
    server.signal("CONT");
    server.call(&["sum", "[1]", "--timeout", "none"]).prints("1\n");
}

#[test]
fn an_answer_that_is_none_is_exit_6() {
    let at = |endpoint: String, message: &str, help: &str| {
        let help = if help.is_empty() { String::new() } else { format!("  help: {help}\n") };
        run(&["call", &endpoint, "m"]).fails(6, &format!("error: {message}\n{help}"));
    };
    let unread = "the answer cannot be read: ";
    at(
        lying(Vec::new()),
        "the server closed the connection without an answer",
        "a server of the 1.0 format closes like this; \"procbridge call --old\" speaks that format",
    );
    at(
        lying(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        &format!("{unread}not a ProcBridge packet: byte 0 is 0x48, expected the flag \"pb\""),
        "another kind of server listens there; check the endpoint",
    );
    let good = packet(1, "{\"payload\":1}");
    at(
        lying(good[..7].to_vec()),
        &format!("{unread}input ended after 7 of 11 bytes of a packet's header"),
        "",
    );
    at(
        lying(good[..20].to_vec()),
        &format!("{unread}input ended after 9 of 13 bytes of a packet's body"),
        "",
    );
    at(
        lying([&good[..11], &good[..]].concat()),
        &format!("{unread}body is not JSON: expected a value at byte 0"),
        "",
    );
    let version = |minor: u8| [&b"pb\x01"[..], &[minor], &good[4..]].concat();
    at(lying(version(9)), &format!("{unread}unsupported version 1.9, expected 1.1"), "");
    at(
        lying(version(0)),
        &format!("{unread}unsupported version 1.0, expected 1.1"),
        "\"procbridge call --old\" speaks the 1.0 format",
    );
    at(
        lying(packet(0, "{}")),
        &format!("{unread}unexpected status code 0, expected a response (1 or 2)"),
        "",
    );
    at(
        lying(b"pb\x01\x01\x01\0\0\xff\xff\xff\xff".to_vec()),
        &format!("{unread}body of 4294967295 B exceeds the limit of 16777216 B (max_body)"),
        "raise --max-body; the server has a limit of its own",
    );
    at(lying(packet(1, "[]")), &format!("{unread}body must be a JSON object, found an array"), "");
}

#[test]
fn a_server_that_is_killed_in_a_call_is_exit_6() {
    let server = Serving::start(&["127.0.0.1:0", "--demo", "--verbose"]);
    let call = server.begin_call(&["sleep", "30", "--json"]);
    server.wait_for_call("sleep");
    server.signal("KILL");
    let killed = call.end();
    assert_eq!(killed.code, Some(6), "{killed:?}");
    assert_eq!(killed.envelope()["error"]["outcome"], json!("unknown"));
    // Then no server is there. A thread in `accept` may keep the socket for a moment longer than the connections are kept.
    let endpoint = server.endpoint().to_string();
    server.end();
    let later = run(&["call", &endpoint, "sum", "[1]"]);
    assert_eq!(later.code, Some(4), "{later:?}");
}

#[test]
fn the_old_format_is_spoken_on_demand() {
    let server = Serving::demo();
    server.call(&["echo", "{\"a\":1}", "--old"]).prints("{\"a\":1}\n");
    server.call(&["err", "--old"]).fails(3, "error: generated error\n");
    let without = server.call(&["--old", "--no-method"]);
    assert_eq!(without.code, Some(2), "{without:?}");
}

#[test]
fn a_signal_ends_a_call() {
    let (sender, arrived) = std::sync::mpsc::channel();
    let endpoint = fake(move |stream| {
        sender.send(()).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let call = Running::start(program(&["call", &endpoint, "m"]), b"");
    arrived.recv_timeout(crate::support::WATCHDOG).unwrap();
    // There is no way to tell a classic server but to be gone.
    call.signal("INT");
    call.end().fails(130, "");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let server = Serving::demo();
    for args in [
        &["call", server.endpoint(), "echo", "-"][..],
        &["call", server.endpoint(), "count", "n:=100000000", "--stream"],
        &["call", server.endpoint(), "count", "n:=100000000", "--stream", "--json"],
        &["list", server.endpoint()],
        &["describe", server.endpoint()],
        &["stats", server.endpoint()],
        &["info", server.endpoint()],
        &["ping", server.endpoint(), "-n", "1000000", "-i", "1h"],
        &["call", "--help"],
        &["completions", "zsh"],
        &["man"],
    ] {
        let mut command = program(args);
        // A pipe whose reading end is closed already.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(format!("\"{}\"", "x".repeat(300_000)).as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap()),
            (Some(0), String::new()),
            "{args:?}"
        );
    }
    // A full disk is one.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = program(&["call", server.endpoint(), "sum", "[1]"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot write to standard output: no space left on device\n"
    );
}

//! What a call costs in system calls, counted by strace: a figure that no noise of the machine changes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "tests may stop at the first surprise"
)]

mod demo;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use demo::{Demo, WATCHDOG, binary, request};
use serde_json::json;

fn strace(output: &Path) -> Command {
    let mut command = Command::new("strace");
    // -D: the traced process is this one's child, so that signals reach it.
    command.args(["-D", "-f", "-q", "-o"]).arg(output).arg(binary());
    command
}

/// Traces the thread that calls, and not the one that waits for signals, whose calls would cut the others in two.
fn strace_caller(output: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-q", "-o"]).arg(output).arg(binary());
    command
}

/// The trace, once strace has written all of it.
fn read(trace: &Path) -> String {
    let deadline = Instant::now() + WATCHDOG;
    loop {
        let text = fs::read_to_string(trace).unwrap();
        if text.contains("+++ exited with") {
            return text;
        }
        assert!(Instant::now() < deadline, "strace has not ended: {text}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The system calls in a trace, without the second halves of those that another thread interrupted, and without
/// fcntl(F_GETFD), by which debug builds check a descriptor before they close it.
fn calls(trace: &Path) -> Vec<String> {
    let is_call = |call: &&str| {
        !["<...", "---", "+++"].iter().any(|mark| call.starts_with(mark)) && !call.contains("F_GETFD")
    };
    let text = read(trace);
    text.lines()
        // With -f each line begins with a thread's number.
        .map(|line| line.trim_start_matches(|digit: char| digit.is_ascii_digit()).trim())
        .filter(is_call)
        .map(str::to_string)
        .collect()
}

fn is_write(call: &str) -> bool {
    ["write(", "sendto(", "sendmsg(", "writev("].iter().any(|name| call.starts_with(name))
}

/// Serves `count` calls over the Unix socket, one after the other, and returns the trace of the whole.
fn serve(count: usize) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let demo = Demo::start_as(strace(&trace), &[]);
    for _ in 0..count {
        let mut stream = demo.connect(&demo.endpoints[1]);
        stream.write_all(&request(r#"{"method":"echo","payload":[1,2,3]}"#)).unwrap();
        assert_eq!(stream.answer().unwrap().body, json!({"payload": [1, 2, 3]}));
    }
    demo.terminate();
    calls(&trace)
}

#[test]
fn a_server_answers_a_classic_call_in_six_system_calls_and_one_write() {
    let (few, many) = (serve(10), serve(210));
    let packets = |calls: &[String]| calls.iter().filter(|call| call.contains("\"pb\\1\\1\\1")).count();
    let writes = many.iter().filter(|call| is_write(call) && call.contains("pb\\1\\1")).count();
    assert!(packets(&many) >= 210);
    assert_eq!(writes, 210, "one write for each packet");
    let each = (many.len() as f64 - few.len() as f64) / 200.0;
    // A thread that starts or ends in one of the two runs makes some calls of its own, as does a connection that the
    // poller had to take because the machine was busy.
    assert!(each.round() <= 6.0, "{each} system calls for a call: {:#?}", many.get(many.len() - 40..));
}

#[test]
fn a_client_makes_a_classic_call_in_six_system_calls_and_one_write() {
    let demo = Demo::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let output = strace_caller(&trace)
        .args(["call", "--classic", &demo.endpoints[1], "echo", "[1,2,3]"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[1,2,3]\n");
    let calls = calls(&trace);
    let first = calls.iter().position(|call| call.starts_with("socket(AF_UNIX, SOCK_STREAM")).unwrap();
    let descriptor = calls[first].rsplit("= ").next().unwrap().trim().to_string();
    let close = format!("close({descriptor})");
    let last = first + calls.iter().skip(first).position(|call| call.starts_with(&close)).unwrap();
    let call = &calls[first..=last];
    assert!(call.len() <= 6, "{} system calls: {call:#?}", call.len());
    assert_eq!(call.iter().filter(|call| is_write(call)).count(), 1, "{call:#?}");
}

/// Makes `count` calls on a session, one after the other, and returns the traces of the client and of the server.
fn converse(count: usize) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (there, here) = (dir.path().join("server"), dir.path().join("client"));
    let demo = Demo::start_as(strace(&there), &[]);
    let count = count.to_string();
    let mut client = strace_caller(&here);
    client.args(["call", "--session", "--count", &count, &demo.endpoints[1], "echo", "[1,2,3]"]);
    assert_eq!(String::from_utf8(client.output().unwrap().stdout).unwrap(), "[1,2,3]\n");
    demo.terminate();
    (calls(&here), calls(&there))
}

#[test]
fn a_call_on_a_session_takes_two_system_calls_on_each_side() {
    let (few, many) = (converse(10), converse(510));
    let each = |few: &[String], many: &[String]| (many.len() as f64 - few.len() as f64) / 500.0;
    let client = each(&few.0, &many.0);
    assert!((1.9..2.1).contains(&client), "{client} system calls for a call at the client");
    // The server's poller looks at the clock now and then; strace makes that more often for each call.
    let server = each(&few.1, &many.1);
    assert!((1.5..3.5).contains(&server), "{server} system calls for a call at the server");
}

//! `-v`: packets on standard error, and nothing else changes.

use std::fs;
use std::os::unix::net::UnixListener;

use crate::support::{Serving, Talking, lying, packet, program, run, run_with};

/// Returns the notes, without the times.
fn told(stderr: &str) -> Vec<String> {
    stderr
        .lines()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let (way, time, what) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            assert!(time.parse::<f64>().is_ok(), "{line}");
            format!("{way} {what}")
        })
        .collect()
}

#[test]
fn the_packets_of_a_session_are_told_in_their_order() {
    let server = Serving::demo();
    let run = server.call(&["sum", "[1,2]", "-v"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "3\n"));
    let told = told(&run.stderr);
    let at = server.endpoint();
    assert_eq!(told[0], format!("-- connected to {at}, peer {at}"));
    assert_eq!(
        told[1],
        r#"-> REQUEST id=- flags=session reads=lz4,zstd 32 B {"method":"sum","payload":[1,2]}"#
    );
    assert!(told[2].starts_with("<- HELLO id=- flags=session reads=lz4,zstd "), "{told:?}");
    assert!(told[2].contains(r#" B {"session":1,"#), "{told:?}");
    assert_eq!(told[3], r#"<- GOOD id=1 flags=- 13 B {"payload":3}"#);
    assert!(told[4].starts_with("-> GOODBYE id=0 flags=- "), "{told:?}");
    let mut ends = told[5..].to_vec();
    ends.sort();
    assert_eq!(ends, ["-- closed by the server", "-- closed by this side"]);
}

#[test]
fn classic_connections_are_numbered() {
    let server = Serving::classic();
    let run = server.call(&["sum", "[1]", "-v", "--count", "2", "--classic", "--json"]);
    assert_eq!(run.code, Some(0));
    let told = told(&run.stderr);
    let with = |words: &str| told.iter().filter(|line| line.contains(words)).count();
    assert_eq!((with("-> REQUEST id=- flags=- "), with("-> [2] REQUEST id=- flags=- ")), (1, 1), "{told:?}");
    assert_eq!((with("<- GOOD "), with("<- [2] GOOD "), with("HELLO")), (1, 1, 0), "{told:?}");
}

#[test]
fn every_command_that_calls_can_tell() {
    let server = Serving::demo();
    for args in [
        &["ping", server.endpoint(), "-n", "2", "-i", "0s", "-v"][..],
        &["info", server.endpoint(), "-v"],
        &["list", server.endpoint(), "-v"],
        &["describe", server.endpoint(), "-v"],
        &["stats", server.endpoint(), "-v"],
        &["emit", server.endpoint(), "a", "-v"],
        &["call", server.endpoint(), "count", "n:=2", "--stream", "-v"],
        &["call", server.endpoint(), "echo", "--notify", "-v"],
    ] {
        let run = run(args);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stderr.contains(" REQUEST ") && run.stderr.contains(" HELLO "), "{args:?} {run:?}");
    }
    let watch = Talking::start(&["watch", server.endpoint(), "a", "-v", "-n", "1"]);
    watch.note_with("watching a at ");
    server.run("emit", &["a", "1"]).prints("1\n");
    watch.note_with("<- ");
    assert_eq!(watch.line(), r#"{"topic":"a","payload":1}"#);
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn nothing_else_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{}/{name}", directory.path().display());
    let name = format!("unix:@procbridge-test-v-{}", std::process::id());
    let server = Serving::start(&["127.0.0.1:0", &path("a.sock"), &name, "localhost:0", "--demo"]);
    for endpoint in &server.endpoints {
        let text = format!("\"{}\"", "é\\n".repeat(200_000));
        let echo = program(&["call", endpoint, "echo", "-", "-v"]);
        let run = run_with(echo, text.as_bytes());
        assert_eq!((run.code, run.stdout.trim_end()), (Some(0), text.as_str()));
        // However long a body is, its line is not.
        assert!(
            run.stderr.lines().all(|line| line.len() < 600) && run.stderr.contains(".."),
            "{}",
            run.stderr.len()
        );
    }
    // Failures are told as without it.
    drop(UnixListener::bind(path("stale.sock")).unwrap());
    fs::write(path("file"), "").unwrap();
    for endpoint in [
        ":1",
        &path("none.sock"),
        &path("stale.sock"),
        &path("file"),
        "unix:@procbridge-test-nobody",
        "/no/such/a.sock",
    ] {
        for command in [&["call", endpoint, "m"][..], &["list", endpoint], &["watch", endpoint, "a"]] {
            let (plain, loud) = (run(command), run(&[command, &["-v"]].concat()));
            let error = loud.stderr.split_once('\n').unwrap();
            assert!(error.0.starts_with("-- ") && error.0.contains(" cannot connect: "), "{loud:?}");
            assert_eq!((plain.code, plain.stderr.as_str()), (loud.code, error.1), "{command:?}");
        }
    }
    let idempotent = run(&["call", ":1", "m", "-v", "--idempotent", "--timeout", "1s"]);
    assert_eq!(idempotent.code, Some(4), "{idempotent:?}");
}

#[test]
fn what_is_no_packet_is_told_too() {
    let run = run(&["call", &lying(b"HTTP/1.1 400\x1b[31m\r\n".to_vec()), "m", "-v"]);
    assert_eq!(run.code, Some(6));
    let told = told(&run.stderr.lines().take(3).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(told[2], r"<- 19 bytes that are no packet: HTTP/1.1 400\u{1b}[31m\r\n");
    let cut = packet(1, "{\"payload\":1}");
    let run = crate::support::run(&["call", &lying(cut[..15].to_vec()), "m", "-v"]);
    assert_eq!(run.code, Some(6));
    assert!(run.stderr.contains(" 15 bytes of an incomplete packet\n"), "{run:?}");
}

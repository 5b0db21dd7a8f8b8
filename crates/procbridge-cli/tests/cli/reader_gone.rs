//! A reader of standard output that has gone, while the command waits for the server.

use std::io::{BufRead, BufReader, PipeReader};
use std::process::{Child, Stdio};

use crate::support::{Serving, end_of, on_a_thread, program, stats, wait_until};

/// Returns a command, the reader of its output and that of its notes.
fn piped(args: &[&str]) -> (Child, PipeReader, BufReader<std::process::ChildStderr>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = program(args);
    let mut child = command.stdout(writer).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let notes = BufReader::new(child.stderr.take().unwrap());
    (child, reader, notes)
}

#[test]
fn watching_ends_with_its_reader_though_no_event_comes() {
    let server = Serving::demo();
    for options in [&[][..], &["--json"]] {
        let (child, reader, mut notes) = piped(&[&["watch", server.endpoint(), "a"], options].concat());
        if options.is_empty() {
            let mut note = String::new();
            notes.read_line(&mut note).unwrap();
            assert!(note.starts_with("watching a at "), "{note}");
        } else {
            wait_until("it watches", || server.run("emit", &["a"]).stdout == "1\n");
        }
        drop(reader);
        assert_eq!(end_of(child), Some(0));
        assert_eq!(notes.lines().count(), 0);
    }
}

#[test]
fn watching_again_ends_with_its_reader_while_no_server_is_there() {
    let server = Serving::demo();
    let (child, reader, mut notes) = piped(&["watch", server.endpoint(), "a"]);
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    drop(server);
    notes.read_line(&mut note).unwrap();
    assert!(note.ends_with("; reconnecting\n"), "{note}");
    drop(reader);
    assert_eq!(end_of(child), Some(0));
}

#[test]
fn a_stream_ends_with_its_reader_though_no_item_comes_and_the_server_is_told() {
    let server = Serving::demo();
    let slow = ["call", server.endpoint(), "count", "{\"n\":9,\"interval_ms\":3600000}", "--stream"];
    let (child, reader, _notes) = piped(&slow);
    wait_until("the call runs", || stats(server.endpoint())["methods"]["count"]["in_flight"] == 1);
    drop(reader);
    assert_eq!(end_of(child), Some(0));
    server.wait_until_idle("count");
}

#[test]
fn pings_end_with_their_reader() {
    let server = Serving::demo();
    let (child, reader, _notes) = piped(&["ping", server.endpoint(), "-n", "9", "-i", "1h"]);
    let (line, reader) = crate::support::first_line(reader);
    assert!(line.starts_with("answer from "), "{line}");
    drop(reader);
    assert_eq!(end_of(child), Some(0));
}

#[test]
fn a_call_for_one_result_runs_to_its_end() {
    let server = Serving::demo();
    let (child, reader, _notes) = piped(&["call", server.endpoint(), "sleep", "0.6"]);
    drop(reader);
    assert_eq!(end_of(child), Some(0));
    let counted = &stats(server.endpoint())["methods"]["sleep"];
    assert_eq!((&counted["calls"], &counted["errors"]), (&1.into(), &0.into()), "{counted}");
}

#[test]
fn a_file_is_no_reader_that_could_go() {
    let server = Serving::demo();
    let mut command = program(&["watch", server.endpoint(), "a", "-n", "1"]);
    let file = tempfile::tempfile().unwrap();
    let child = command.stdout(file).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it watches", || server.run("emit", &["a"]).stdout == "1\n");
    assert_eq!(on_a_thread(move || end_of(child)).recv_timeout(crate::support::WATCHDOG).unwrap(), Some(0));
}

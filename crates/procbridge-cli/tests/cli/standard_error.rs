//! A standard error that is full, slow or gone blocks nothing.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Serving, end_of, fill, first_line, on_a_thread, program, run, signal, wait_until};

fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).unwrap().count()
}

#[test]
fn a_server_with_a_full_standard_error_serves_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("{}/a.sock", directory.path().display());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = program(&["serve", &path, "--demo", "-v", "--max-connections", "4"]);
    let server = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
    drop(command);
    let (ready, mut reader) = first_line(reader);
    assert!(ready.starts_with("ready: "), "{ready}");
    fill(&writer);
    // More lines than wait, refused connections among them.
    run(&["call", "--session", &path, "echo", "1", "--count", "6000"]);
    let held: Vec<_> = (0..40).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    drop(held);
    wait_until("it answers", || run(&["call", &path, "sum", "[1]"]).stdout == "1\n");
    assert!(run(&["call", &path, "sleep", "1", "--timeout", "20ms"]).code == Some(5));
    assert!(threads(server.id()) < 64, "{}", threads(server.id()));
    // When it is read again, what was lost is told.
    drop(writer);
    let read = on_a_thread(move || {
        let (mut log, mut chunk) = (Vec::new(), [0; 4096]);
        while !log.windows(21).any(|part| part == b"lines are left out he") {
            let count = reader.read(&mut chunk).unwrap();
            assert!(count > 0, "it ended without telling");
            log.extend_from_slice(&chunk[..count]);
        }
        (String::from_utf8_lossy(&log).into_owned(), reader)
    });
    let (log, reader) = read.recv_timeout(crate::support::WATCHDOG).unwrap();
    let line = log.lines().find(|line| line.contains("left out here")).unwrap();
    let count: u64 = line.strip_prefix("warn: ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(count > 1000, "{line}");
    // Nor does the end wait for it.
    let mut stuffed = program(&["call", "--session", &path, "echo", "1", "--count", "6000"]);
    assert!(stuffed.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    signal(server.id(), "TERM");
    assert_eq!(end_of(server), Some(0));
    drop(reader);
}

#[test]
fn packets_that_no_reader_takes_hold_up_no_call() {
    let server = Serving::demo();
    let (_reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut command =
        program(&["call", "-v", "--session", server.endpoint(), "echo", "1", "--count", "3000"]);
    let mut call = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop(command);
    let mut stdout = call.stdout.take().unwrap();
    assert_eq!(end_of(call), Some(0));
    let mut result = String::new();
    stdout.read_to_string(&mut result).unwrap();
    assert_eq!(result, "1\n");
}

#[test]
fn a_server_whose_standard_error_is_closed_serves_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = program(&["serve", "127.0.0.1:0", "--demo", "-v"]);
    let server = command.stderr(writer).spawn().unwrap();
    drop(command);
    let (ready, reader) = first_line(reader);
    drop(reader);
    let endpoint = ready.trim().strip_prefix("ready: listening on ").unwrap();
    for _ in 0..3 {
        run(&["call", endpoint, "sum", "[1]"]).prints("1\n");
    }
    signal(server.id(), "TERM");
    assert_eq!(end_of(server), Some(0));
}

#[test]
fn pipes_that_another_program_made_not_to_wait_lose_nothing() {
    let server = Serving::demo();
    // A large result goes out in parts, and a reader that takes its time comes between.
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut command = program(&["call", server.endpoint(), "count", "n:=100000"]);
    let call = command.stdout(writer).stdin(Stdio::null()).spawn().unwrap();
    drop(command);
    wait_until("the result waits", || rustix::io::ioctl_fionread(&reader).unwrap() >= 65_536);
    let mut result = String::new();
    reader.read_to_string(&mut result).unwrap();
    assert_eq!(end_of(call), Some(0));
    assert!(result.ends_with(",99999]\n") && result.len() == 588_892, "{}", result.len());
}

#[test]
fn an_error_of_any_length_is_told() {
    let answer = format!("{{\"message\":\"{}\"}}", "x".repeat(3_000_000));
    let run = run(&["call", &crate::support::always(crate::support::packet(2, &answer)), "m"]);
    assert_eq!((run.code, run.stderr.len()), (Some(3), 3_000_008));
}

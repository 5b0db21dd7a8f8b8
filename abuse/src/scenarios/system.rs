//! The resources that a server has of its system: descriptors, its log, its commands, its end.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::connection::{At, Session};
use crate::field::Field;
use crate::packet::{self, GOOD, STREAM};
use crate::process::Figures;
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, DEMO, Scenario, USUAL};
use crate::server::{self, Server};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "descriptors_used_up",
        faults: "table",
        about: "200 connections at a server of 64 descriptors, which serves again when they go",
        attack: |field| {
            let connections: Vec<_> = (0..200).filter_map(|turn| field.either(turn).connect().ok()).collect();
            field.tell("connections", connections.len() as f64);
            field.hold();
        },
        targets: ALL_SERVERS,
        files: Some(64),
        // No server can answer what it has no descriptor for.
        bounds: Bounds { goodput: 0.0, p99: Duration::from_secs(60), cores: 0.1, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "stopping_among_the_stalled",
        faults: "table",
        about: "a second server with stalled, slow and half-sent calls is stopped, with a second to drain",
        attack: stopping,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(5), Duration::from_secs(4)),
        ..USUAL
    },
    Scenario {
        name: "log_that_nothing_reads",
        faults: "H6",
        about: "a second server whose stderr is a full pipe: it answers, has few threads, and ends on SIGTERM",
        attack: full_log,
        targets: DEMO,
        time: (Duration::from_secs(5), Duration::from_secs(4)),
        ..USUAL
    },
    Scenario {
        name: "commands_of_a_killed_server",
        faults: "H20",
        about: "a second server runs 10 commands and is killed: the commands end",
        attack: |field| commands(field, true),
        targets: DEMO,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        ..USUAL
    },
    Scenario {
        name: "commands_of_callers_that_have_gone",
        faults: "H18",
        about: "a second server runs 10 commands for classic callers that have gone: the commands end",
        attack: |field| commands(field, false),
        targets: DEMO,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        ..USUAL
    },
];

fn stopping(field: &Field<'_>) {
    let Ok(server) = Server::start(field.server.target, &[("drain", 1_000)], None) else {
        return field.at_least("second server", 0.0, 1.0);
    };
    let mut sessions: Vec<Session> = (0..20).filter_map(|_| server.unix.session().ok()).collect();
    for session in &mut sessions {
        let _ = session.begin(0, packet::text("sleep", "30").as_bytes());
        let _ = session.tell(packet::HELLO, r#"{"session":1,"stream_window":0}"#);
        let _ = session.begin(STREAM, br#"{"method":"count","payload":{"n":100000}}"#);
        let _ = session.begin(0, br#"{"method":"count","payload":{"n":200000}}"#);
    }
    let halves: Vec<_> = (0..50)
        .filter_map(|turn| {
            let at = if turn % 2 == 0 { &server.unix } else { &server.tcp };
            let mut connection = at.connect().ok()?;
            connection.send(b"pb\x01\x01").ok()?;
            Some(connection)
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let took = server.stop(Duration::from_secs(8));
    drop(halves);
    field.at_most("ms to stop", took.map_or(99_000.0, |took| took.as_secs_f64() * 1e3), 2_500.0);
}

fn full_log(field: &Field<'_>) {
    let wrong = || field.at_least("second server", 0.0, 1.0);
    let path = field.server.dir().join("full");
    let Ok((mut child, _log)) = unread_server(&path) else { return wrong() };
    let at = At::Unix(path);
    let found = (|| -> io::Result<()> {
        let mut quiet = at.session()?;
        // Each is a line of the log: more than it holds.
        for _ in 0..150 {
            let _ = at
                .connect()
                .and_then(|mut connection| connection.send(&packet::request(&packet::text("echo", "1"))));
            thread::sleep(Duration::from_millis(5));
        }
        let answer = quiet.ask(&packet::text("echo", "1"));
        field.at_least("quiet session answered", f64::from(u8::from(is_good(&answer))), 1.0);
        let answer = at.ask(&packet::text("echo", "1"));
        field.at_least("classic call answered", f64::from(u8::from(is_good(&answer))), 1.0);
        field.at_most("threads", Figures::of(child.id())?.threads as f64, 40.0);
        Ok(())
    })();
    if found.is_err() {
        wrong();
    }
    let began = Instant::now();
    let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
    let ended = server::within(&mut child, Duration::from_secs(4)).is_some();
    let took = if ended { began.elapsed().as_secs_f64() * 1e3 } else { 99_000.0 };
    field.at_most("ms to end on SIGTERM", took, 1_500.0);
    let _ = child.kill();
    let _ = child.wait();
}

fn is_good(answer: &io::Result<packet::Packet>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.kind == GOOD)
}

/// Starts a demo server that logs each call into a pipe of 4 KiB. The first line was read, and nothing more will be.
fn unread_server(path: &Path) -> io::Result<(Child, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&writer, 4_096)?;
    let mut command = server::tied(&server::procbridge(), None)?;
    command
        .args(["serve", "--demo", "-v"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer);
    let child = command.spawn()?;
    // The command holds the other end too, and the pipe would have no end.
    drop(command);
    let mut reader = fs::File::from(reader);
    let (mut byte, mut read) = ([0], 0);
    while byte != *b"\n" && read < 1_000 {
        read += reader.read(&mut byte)?.max(1);
    }
    Ok((child, reader.into()))
}

/// Runs commands for ten callers, kills the server or lets the callers go, and counts the commands that are left.
fn commands(field: &Field<'_>, kill: bool) {
    let path = field.server.dir().join("exec");
    // A length of sleep that no other program has.
    let length = format!("300.{}{}", std::process::id(), u8::from(kill));
    let Ok(mut child) = exec_server(&path, &format!("sleep {length}")) else {
        return field.at_least("second server", 0.0, 1.0);
    };
    let at = At::Unix(path);
    let call = packet::request(&packet::text("any", "1"));
    let mut callers: Vec<_> = (0..10).filter_map(|_| at.connect().ok()).collect();
    for caller in &mut callers {
        let _ = caller.send(&call);
    }
    let begun = until(Duration::from_secs(1), || running(&length).len() == 10);
    field.at_least("commands begun", f64::from(u8::from(begun)), 1.0);
    if kill {
        let _ = child.kill();
        let _ = child.wait();
    }
    drop(callers);
    until(Duration::from_secs(1), || running(&length).is_empty());
    let left = running(&length);
    field.at_most("commands left", left.len() as f64, 0.0);
    let _ = child.kill();
    let _ = child.wait();
    for pid in left {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

fn exec_server(path: &Path, command_line: &str) -> io::Result<Child> {
    let mut command: Command = server::tied(&server::procbridge(), None)?;
    command.args(["serve", "--exec", command_line]).arg(path);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until(Duration::from_secs(2), || At::Unix(path.into()).connect().is_ok());
    Ok(child)
}

/// Waits until it is so, for a time. Tells whether it is.
fn until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Returns the processes of `sleep` with that length.
fn running(length: &str) -> Vec<Pid> {
    let wanted = format!("sleep\0{length}\0");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| {
            fs::read_to_string(process.path().join("cmdline")).is_ok_and(|line| line.ends_with(&wanted))
        })
        .filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .collect()
}

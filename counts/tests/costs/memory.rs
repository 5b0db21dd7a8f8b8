//! Bytes that a connection without calls holds in its server, counted by the server's allocator.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check;
use crate::probe::{Server, Tool};

const TABLE: &[(&str, f64)] = &[
    ("blocking session", 1257.0),
    ("blocking classic", 395.0),
    ("tokio session", 1731.0),
    ("tokio classic", 1395.0),
];
/// A figure that is worse than the table by more than this is a failure.
const TOLERANCE: f64 = 0.05;

/// The heap of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heap {
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

/// Asks a server for its heap, in a connection of its own.
pub(crate) fn heap(server: &Server) -> Heap {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&request(0, r#"{"method":"heap"}"#)).unwrap();
    let (_, answer) = packet(&mut stream);
    let number = |at: usize| answer["payload"][at].as_f64().unwrap();
    Heap { allocations: number(0), bytes: number(1) }
}

/// Returns the heap in use, once nothing more is freed. A session that was busy gets a while to become so.
fn settled(server: &Server) -> f64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = heap(server).bytes;
    loop {
        thread::sleep(Duration::from_millis(400));
        let now = heap(server).bytes;
        if (now - last).abs() < 2048.0 || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

/// Returns a session that has made its first call.
fn session(server: &Server) -> UnixStream {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.write_all(&request(SESSION, r#"{"method":"$/ping"}"#)).unwrap();
    assert_eq!((packet(&mut stream).0, packet(&mut stream).0), (HELLO, GOOD));
    stream
}

pub(crate) fn request(flags: u8, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[b'p', b'b', 1, 1, 0, flags, 0][..], &length, body.as_bytes()].concat()
}

/// Returns the next packet: its status, and its content if that is all of its body.
fn packet(stream: &mut UnixStream) -> (u8, Value) {
    let mut header = [0; 11];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_le_bytes(header[7..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    (header[4], serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
#[cfg_attr(debug_assertions, ignore = "counts are those of an optimised program")]
fn bytes_of_an_idle_connection() {
    check(TABLE, TOLERANCE, measure);
}

fn measure() -> Vec<(String, f64)> {
    let mut measured = Vec::new();
    for face in ["blocking", "tokio"] {
        for (style, count) in [("session", 2_000), ("classic", 200)] {
            let server = Server::start(Tool::Nothing, face);
            let open = |_| match style {
                "session" => session(&server),
                // Nothing of a request has come. One after the other: more at a time would take more threads.
                _ => {
                    server.rest();
                    UnixStream::connect(server.path()).unwrap()
                }
            };
            let _first: Vec<_> = (0..20).map(open).collect();
            let (before, resident) = (settled(&server), resident(&server));
            let _all: Vec<_> = (0..count).map(open).collect();
            let each = (settled(&server) - before) / f64::from(count);
            measured.push((format!("{face} {style}"), each));
            let resident = (self::resident(&server) - resident) / f64::from(count);
            let _ = writeln!(std::io::stdout(), "resident: {face} {style}: {resident:.0} B");
        }
    }
    measured
}

/// Returns the memory of a server's process that is in use.
fn resident(server: &Server) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

const SESSION: u8 = 1;
const GOOD: u8 = 1;
const HELLO: u8 = 3;

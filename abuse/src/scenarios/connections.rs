//! Connections that bring no call, not the whole of one, or something else.

use std::time::{Duration, Instant};

use crate::connection::{At, Connection};
use crate::field::Field;
use crate::packet::{self, BAD, GOOD, MAX_BODY, REQUEST};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "half_sent_headers",
        faults: "table",
        about: "1,000 connections with half a header each; those that are ended come again",
        attack: |field| crowd(field, field.scaled(1_000, 400), |_| b"pb\x01\x01\0".to_vec()),
        targets: ALL_SERVERS,
        bounds: Bounds { goodput: 0.95, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "half_sent_bodies",
        faults: "table",
        about: "1,000 connections with half a body each; those that are ended come again",
        attack: |field| crowd(field, field.scaled(1_000, 400), |_| half_a_body()),
        bounds: Bounds { goodput: 0.95, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "half_sent_for_a_minute",
        faults: "H24",
        about: "1,000 half headers and 1,000 half bodies for a minute, ended in time",
        attack: for_a_minute,
        is_short: false,
        time: (Duration::from_secs(60), Duration::from_secs(1)),
        bounds: Bounds { goodput: 0.95, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "announced_largest_bodies",
        faults: "table",
        about: "1,000 headers that announce 16 MiB each",
        attack: |field| {
            crowd(field, field.scaled(1_000, 400), |_| {
                packet::header(REQUEST, 0, 0, MAX_BODY as u32).to_vec()
            });
        },
        targets: ALL_SERVERS,
        bounds: Bounds { goodput: 0.95, memory: 8.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "announced_beyond_the_limit",
        faults: "table",
        about: "headers that announce 4 GiB, 300 a second, each refused",
        attack: |field| {
            refused(field, &packet::header(REQUEST, 0, 0, u32::MAX), 300, |answer| answer.kind == BAD);
        },
        bounds: Bounds { memory: 16.0, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "announced_in_sessions",
        faults: "table",
        about: "100 sessions, each with a header that announces 16 MiB",
        attack: announced_in_sessions,
        bounds: Bounds { memory: 16.0, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "byte_by_byte_connections",
        faults: "table",
        about: "100 calls, a byte each 20 ms; all are answered",
        attack: byte_by_byte,
        ..USUAL
    },
    Scenario {
        name: "connect_and_close",
        faults: "table",
        about: "connections that are closed at once, 1,500 a second",
        attack: |field| churn(field, 1_500, |_| {}),
        time: (Duration::from_secs(4), Duration::from_millis(1_200)),
        ..USUAL
    },
    Scenario {
        name: "connect_and_reset",
        faults: "table",
        about: "TCP connections that are reset at once, 1,000 a second",
        attack: |field| {
            field.steadily(1_000, |_| {
                field.tcp().connect()?.reset();
                Ok(())
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "half_close",
        faults: "table",
        about: "connections that close their sending direction inside a header, 300 a second",
        attack: |field| {
            churn(field, 300, |connection| {
                let _ = connection.send(b"pb\x01\x01\0\0");
                connection.finish_writing();
                let _ = connection.ends_within(Duration::from_millis(200));
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "half_close_after_the_request",
        faults: "table",
        about: "calls that close their sending direction, 300 a second; all are answered",
        attack: |field| {
            let missed = misses(field, 300, &packet::request(&packet::text("echo", "1")), true, |answer| {
                answer.is_ok_and(|answer| answer.kind == GOOD)
            });
            field.at_most("calls not answered", missed, 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "connection_churn",
        faults: "table",
        about: "10,000 connections with a call each, 1,250 a second",
        attack: |field| {
            field.crowd(2, |number| {
                field.steadily(625, |turn| {
                    let _ = field.either(number + turn).ask(&packet::text("echo", "1"));
                    Ok(())
                });
            });
        },
        is_short: false,
        time: (Duration::from_secs(8), Duration::from_secs(1)),
        ..USUAL
    },
    Scenario {
        name: "idle_connections",
        faults: "table",
        about: "700 connections that say nothing; those that are ended come again",
        attack: |field| crowd(field, 700, |_| Vec::new()),
        targets: ALL_SERVERS,
        ..USUAL
    },
    Scenario {
        name: "idle_sessions_fill_the_server",
        faults: "H10",
        about: "400 idle sessions at a server that takes 300 connections; those that are ended come again",
        attack: |field| idle_sessions(field, 400, None),
        targets: ALL_SERVERS,
        // A session is idle after 250 ms.
        lead: Duration::from_millis(800),
        settings: &[("max_connections", 300)],
        ..USUAL
    },
    Scenario {
        name: "pinging_sessions_fill_the_server",
        faults: "H10",
        about: "the same, and each session sends a PING now and then",
        attack: |field| idle_sessions(field, 400, Some(packet::packet(packet::PING, 0, 0, b"{}"))),
        // A session is idle after 250 ms.
        lead: Duration::from_millis(800),
        settings: &[("max_connections", 300)],
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "sessions_use_up_the_descriptors",
        faults: "part 3",
        about: "1,100 sessions that send a PING now and then, at a server of 1,024 descriptors",
        attack: |field| idle_sessions(field, 1_100, Some(packet::packet(packet::PING, 0, 0, b"{}"))),
        lead: Duration::from_millis(1_500),
        files: Some(1_024),
        bounds: Bounds { threads: 600, descriptors: 1_024, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "http_requests",
        faults: "table",
        about: "HTTP requests, 300 a second; each is ended without an answer",
        attack: |field| {
            foreign(field, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
        },
        ..USUAL
    },
    Scenario {
        name: "tls_hellos",
        faults: "table",
        about: "TLS client hellos, 300 a second; each is ended without an answer",
        attack: |field| {
            let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 500]].concat();
            foreign(field, &hello);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "random_bytes",
        faults: "table",
        about: "connections with 2,000 random bytes, 300 a second",
        attack: |field| {
            field.steadily(300, |turn| {
                let Ok(mut connection) = field.either(turn).connect() else { return Ok(()) };
                let _ = connection.send(&packet::noise(turn, 2_000));
                let _ = connection.ends_within(Duration::from_millis(100));
                Ok(())
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "version_1_0_calls",
        faults: "table",
        about: "calls of version 1.0, 300 a second; all are answered in version 1.0",
        attack: |field| {
            let mut call = packet::request(&packet::text("echo", "1"));
            call[3] = 0;
            let missed = misses(field, 300, &call, false, |answer| {
                // The reader takes 1.1 only, and says that this is none.
                answer.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
            });
            field.at_most("calls not answered", missed, 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "resets_inside_a_body",
        faults: "table",
        about: "TCP connections that are reset inside a body of 100 KB, 300 a second",
        attack: |field| {
            let body = packet::request(&packet::long_text("echo", 100_000));
            field.steadily(300, |_| {
                let Ok(mut connection) = field.tcp().connect() else { return Ok(()) };
                let _ = connection.send(&body[..60_000]);
                connection.reset();
                Ok(())
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "endless_bytes_behind_a_request",
        faults: "table",
        about: "20 connections that go on sending behind their request, 40 MB/s together",
        attack: |field| endless(field, &packet::request(&packet::text("echo", "1"))),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "endless_bytes_behind_a_refusal",
        faults: "table",
        about: "20 connections that go on sending though they were refused, 40 MB/s together",
        attack: |field| endless(field, b"this is no packet"),
        ..USUAL
    },
];

fn half_a_body() -> Vec<u8> {
    let body = packet::request(&packet::long_text("echo", 1_000));
    body[..500].to_vec()
}

/// Holds so many connections with these bytes on them. Those that the server ends come again, 500 a second.
fn crowd(field: &Field<'_>, count: usize, bytes: impl Fn(usize) -> Vec<u8>) {
    let mut connections: Vec<Option<Connection>> = (0..count).map(|_| None).collect();
    let (mut turn, mut ended) = (0, 0_u32);
    // As fast as it goes at first, but not in the way of others.
    let mut budget = Instant::now();
    while !field.is_over() {
        let place = turn % count;
        turn += 1;
        let slot = &mut connections[place];
        if slot.as_ref().is_some_and(Connection::has_ended) {
            ended += 1;
            *slot = None;
        }
        if slot.is_none() {
            *slot = enter(field.either(place), &bytes(place));
            budget += Duration::from_micros(if turn <= count { 500 } else { 2_000 });
        }
        if place == 0 {
            budget = budget.max(Instant::now()) + Duration::from_millis(20);
        }
        field.sleep(budget.saturating_duration_since(Instant::now()));
    }
    field.tell("ended by the server", f64::from(ended));
}

fn enter(at: &At, bytes: &[u8]) -> Option<Connection> {
    let mut connection = at.connect().ok()?;
    if !bytes.is_empty() {
        connection.send(bytes).ok()?;
    }
    Some(connection)
}

/// Runs two crowds, and one connection of each kind whose end is timed.
fn for_a_minute(field: &Field<'_>) {
    field.crowd(4, |number| match number {
        0 => crowd(field, 1_000, |_| b"pb\x01\x01\0".to_vec()),
        1 => crowd(field, 1_000, |_| half_a_body()),
        _ => {
            // It comes early enough to have a place.
            let bytes = if number == 2 { b"pb\x01\x01\0".to_vec() } else { half_a_body() };
            let began = Instant::now();
            let Some(connection) = enter(field.unix(), &bytes) else { return };
            let ended = connection.ends_within(Duration::from_secs(30));
            let seconds = if ended { began.elapsed().as_secs_f64() } else { 99.0 };
            // A body has 5 s of grace, and is looked at over 10 s.
            let (name, most) =
                if number == 2 { ("s to end a header", 10.5) } else { ("s to end a body", 15.5) };
            field.at_most(name, seconds, most);
        }
    });
}

/// Sends bytes of another protocol, which are answered with the end.
fn foreign(field: &Field<'_>, bytes: &[u8]) {
    let missed = misses(field, 300, bytes, false, |answer| {
        answer.is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
        })
    });
    field.at_most("not ended", missed, 0.0);
}

/// Sends bytes that have one definite answer, so many times a second.
fn refused(field: &Field<'_>, bytes: &[u8], a_second: u32, is_right: fn(&packet::Packet) -> bool) {
    let missed = misses(field, a_second, bytes, false, |answer| answer.is_ok_and(|answer| is_right(&answer)));
    field.at_most("not refused", missed, 0.0);
}

/// Sends bytes on a connection of their own, so many times a second, and counts the answers that are not right. A few may
/// meet a server that is full.
fn misses(
    field: &Field<'_>,
    a_second: u32,
    bytes: &[u8],
    half_close: bool,
    is_right: impl Fn(std::io::Result<packet::Packet>) -> bool,
) -> f64 {
    let mut missed = 0;
    field.steadily(a_second, |turn| {
        let answer = field.either(turn).connect().and_then(|mut connection| {
            connection.send(bytes)?;
            if half_close {
                connection.finish_writing();
            }
            connection.answer()
        });
        missed += u32::from(!is_right(answer));
        Ok(())
    });
    f64::from(missed)
}

/// Connects so many times a second, and does something with each connection before it is closed.
fn churn(field: &Field<'_>, a_second: u32, act: impl Fn(&mut Connection)) {
    field.steadily(a_second, |turn| {
        if let Ok(mut connection) = field.either(turn).connect() {
            act(&mut connection);
        }
        Ok(())
    });
}

fn announced_in_sessions(field: &Field<'_>) {
    let mut sessions = field.open_sessions(100);
    for session in &mut sessions {
        let _ = session.send(&packet::header(REQUEST, 0, 0, MAX_BODY as u32));
        let _ = session.send(&[3, 0, 0, 0, b'{']);
    }
    field.hold();
}

fn byte_by_byte(field: &Field<'_>) {
    let call = packet::request(&packet::text("echo", "1"));
    let mut connections: Vec<_> = (0..100).filter_map(|turn| field.either(turn).connect().ok()).collect();
    for byte in &call {
        for connection in &mut connections {
            let _ = connection.send(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let answered = connections
        .iter_mut()
        .map(Connection::answer)
        .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.kind == GOOD))
        .count();
    field.at_least("answered", answered as f64, 100.0);
}

/// Opens sessions beyond what the server takes, and sends something on each now and then.
fn idle_sessions(field: &Field<'_>, most: usize, now_and_then: Option<Vec<u8>>) {
    let (mut sessions, mut ended, mut tried) = (field.open_sessions(most), 0_u32, 0_u32);
    field.steadily(250, |turn| {
        if sessions.is_empty() || turn % 10 == 0 {
            tried += 1;
            sessions.extend(field.either(turn / 10).session().ok());
        }
        if sessions.is_empty() {
            return Ok(());
        }
        let chosen = turn % sessions.len();
        if let Some(bytes) = &now_and_then {
            let _ = sessions[chosen].send(bytes);
        }
        if sessions[chosen].connection.has_ended() {
            sessions.swap_remove(chosen);
            ended += 1;
        }
        Ok(())
    });
    field.tell("sessions", sessions.len() as f64);
    field.tell("tried again", f64::from(tried));
    field.tell("ended by the server", f64::from(ended));
}

fn endless(field: &Field<'_>, first: &[u8]) {
    let block = vec![b'e'; 65536];
    field.crowd(2, |_| {
        let mut connections: Vec<Option<Connection>> = (0..10).map(|_| None).collect();
        field.steadily(300, |turn| {
            let slot = &mut connections[turn % 10];
            match slot {
                None => *slot = enter(field.either(turn), first),
                Some(connection) => {
                    if connection.offer(&block).is_err() {
                        *slot = None;
                    }
                }
            }
            Ok(())
        });
    });
}

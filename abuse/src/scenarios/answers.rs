//! Answers that are not read, or slowly.

use std::time::Duration;

use super::bodies::send_in_pieces;
use super::compression::zstd;
use crate::connection::{Connection, Session};
use crate::field::Field;
use crate::packet::{self, ZSTD};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};
use crate::server::Target;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "answers_not_read",
        faults: "H7",
        about: "one session that has 100 answers of 16 MiB made, 40 a second, and reads 64 KiB each 2 s",
        attack: |field| {
            field.sessions(1, |_, session| {
                // The demo server counts for each, which takes a while.
                let calls = if field.server.target == Target::Demo { 10 } else { 100 };
                begin_large(field, session, calls)?;
                field.at_rate(1, |turn| {
                    if turn % 2 == 1 {
                        session.connection.discard(65_536)?;
                    }
                    Ok(())
                })
            });
        },
        targets: ALL_SERVERS,
        time: (Duration::from_secs(5), Duration::from_secs(3)),
        bounds: STALLED,
        ..USUAL
    },
    Scenario {
        name: "stalled_sessions",
        faults: "part 4",
        about: "200 sessions with an answer of 16 MiB each, of which nothing is read",
        attack: |field| {
            let mut sessions = field.open_sessions(field.scaled(200, 100));
            for session in &mut sessions {
                let _ = begin_large(field, session, 1);
            }
            field.tell("sessions", sessions.len() as f64);
            field.hold();
        },
        time: (Duration::from_secs(7), Duration::from_secs(4)),
        bounds: STALLED,
        ..USUAL
    },
    Scenario {
        name: "stalled_connections",
        faults: "part 4",
        about: "100 TCP connections with an answer of 16 MiB each and a window of 2 KiB, not read",
        attack: |field| {
            let call = packet::request(&large(field));
            let connections: Vec<_> = (0..100)
                .filter_map(|_| {
                    let mut connection = field.tcp().connect_narrow().ok()?;
                    connection.send(&call).ok()?;
                    field.sleep(MAKING);
                    Some(connection)
                })
                .collect();
            field.tell("connections", connections.len() as f64);
            field.hold();
        },
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        bounds: STALLED,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "slow_readers",
        faults: "table",
        about: "30 connections and sessions that read answers of 4 MiB at 100 KB/s",
        attack: slow_readers,
        is_short: false,
        bounds: Bounds { memory: 320.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "resets_before_an_answer",
        faults: "table",
        about: "TCP connections that are reset before their answer of 1 MiB, 50 a second",
        attack: |field| {
            let call = packet::request(&packet::text("big", "1048576"));
            field.steadily(50, |_| {
                let Ok(mut connection) = field.tcp().connect() else { return Ok(()) };
                let _ = connection.send(&call);
                field.sleep(Duration::from_millis(1));
                connection.reset();
                Ok(())
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "pongs_not_read",
        faults: "table",
        about: "20 sessions that make 1,000 small calls a second each and read nothing",
        attack: |field| {
            let calls = |session: &mut Session| {
                (0..50)
                    .flat_map(|_| packet::call(session.next_id(), &packet::text("echo", "1")))
                    .collect::<Vec<_>>()
            };
            field.sessions(20, |_, session| {
                field.at_rate(20, |_| {
                    let calls = calls(session);
                    // Bytes that do not go at once are left out with the session.
                    let written = session.connection.offer(&calls)?;
                    if written == calls.len() { Ok(()) } else { Err(std::io::ErrorKind::WouldBlock.into()) }
                })
            });
        },
        bounds: Bounds { memory: 128.0, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "memory_comes_back",
        faults: "H14",
        about: "rounds of 15 inflated requests and 5 echoes of 8 MiB, then nothing",
        attack: rounds,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(6), Duration::from_secs(2)),
        // The demo server's allocator gives unused memory back over 10 s (docs/decisions/0025). Its threads keep some of
        // it for 5 s before. 60 MiB were left after 8 s, 30 MiB after 15 s.
        bounds: Bounds { memory: 390.0, rest: Duration::from_secs(30), ..BOUNDS },
        ..USUAL
    },
];

/// Answers share 256 MiB; what is being made stands beside them.
const STALLED: Bounds = Bounds { memory: 390.0, threads: 400, ..BOUNDS };

/// The time that making an answer of 16 MiB takes.
const MAKING: Duration = Duration::from_millis(25);

/// Returns a call that is answered with nearly 16 MiB.
fn large(field: &Field<'_>) -> String {
    if field.server.target == Target::Demo {
        // Its items are collected: about 15 MiB.
        packet::text("count", r#"{"n":1900000}"#)
    } else {
        packet::text("big", "16700000")
    }
}

fn begin_large(field: &Field<'_>, session: &mut Session, calls: usize) -> std::io::Result<()> {
    let text = large(field);
    (0..calls).try_for_each(|_| {
        // Answers are made one after the other: it is those that wait which are counted.
        field.sleep(MAKING);
        session.begin(0, text.as_bytes()).map(drop)
    })
}

fn slow_readers(field: &Field<'_>) {
    let text = packet::text("big", "4194304");
    let mut readers: Vec<Connection> = Vec::new();
    for turn in 0..30 {
        if turn % 2 == 0 {
            let Ok(mut session) = field.either(turn / 2).session() else { continue };
            if session.begin(0, text.as_bytes()).is_ok() {
                readers.push(session.connection);
            }
        } else {
            let Ok(mut connection) = field.either(turn / 2).connect() else { continue };
            if connection.send(&packet::request(&text)).is_ok() {
                readers.push(connection);
            }
        }
    }
    field.tell("readers", readers.len() as f64);
    field.steadily(2, |_| {
        for reader in &readers {
            let _ = reader.discard(50_000);
        }
        Ok(())
    });
}

fn rounds(field: &Field<'_>) {
    let inflated = zstd(packet::long_text("echo", 1 << 20).as_bytes());
    let bomb = {
        let mut text = br#"{"method":"sleep","payload":0.2,"pad":""#.to_vec();
        text.resize((15 << 20) - 2, b'a');
        text.extend_from_slice(b"\"}");
        zstd(&text)
    };
    let echo = packet::long_text("echo", 8 << 20);
    field.sessions(2, |_, session| {
        loop {
            let mut last = 0;
            for _ in 0..7 {
                last = session.begin(ZSTD, &bomb)?;
            }
            session.end_of(last)?;
            let id = session.begin(ZSTD, &inflated)?;
            session.end_of(id)?;
            for _ in 0..2 {
                let id = session.next_id();
                send_in_pieces(field, session, id, echo.as_bytes())?;
                session.end_of(id)?;
            }
            if field.is_over() {
                return Ok(());
            }
            field.sleep(Duration::from_millis(400));
        }
    });
}

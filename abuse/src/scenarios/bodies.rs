//! Large requests, whole ones and such as never end.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::connection::{Connection, Session};
use crate::field::Field;
use crate::packet::{self, BAD, CANCEL, GOOD, MAX_BODY, MORE, REQUEST};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};
use crate::statistics;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bodies_at_once",
        faults: "table, H24",
        about: "64 connections with 16 MiB each at once; all are answered or refused",
        attack: bodies_at_once,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(5), Duration::from_secs(4)),
        bounds: Bounds { memory: 390.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "session_bodies_at_once",
        faults: "table",
        about: "64 sessions with a call of 16 MiB each at once; all are answered or refused",
        attack: session_bodies_at_once,
        is_short: false,
        time: (Duration::from_secs(5), Duration::from_secs(4)),
        bounds: Bounds { memory: 390.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "small_calls_beside_a_large_one",
        faults: "part 3",
        about: "small calls on a session that echoes 16 MiB twice a second",
        attack: small_beside_large,
        bounds: Bounds { memory: 120.0, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "large_echoes",
        faults: "table",
        about: "4 sessions that echo 8 MiB each second",
        attack: |field| {
            let text = packet::long_text("echo", 8 << 20);
            field.sessions(4, |_, session| {
                loop {
                    let id = session.next_id();
                    send_in_pieces(field, session, id, text.as_bytes())?;
                    session.end_of(id)?;
                    if field.is_over() {
                        return Ok(());
                    }
                    field.sleep(Duration::from_millis(800));
                }
            });
        },
        is_short: false,
        bounds: Bounds { memory: 200.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "unfinished_bytes_filled",
        faults: "H9",
        about: "one session fills the bytes of all requests with slow calls, to the last one",
        attack: fill_the_budget,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        bounds: Bounds { memory: 390.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "unfinished_pieces",
        faults: "H9",
        about: "50 sessions with 8 MiB of a request that goes on at 1.3 KiB/s",
        attack: unfinished_pieces,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        bounds: Bounds { memory: 320.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "unfinished_classic_bodies",
        faults: "H9",
        about: "50 connections with 8 MiB of a request that goes on at 1.3 KiB/s",
        attack: unfinished_classic,
        is_short: false,
        time: (Duration::from_secs(4), Duration::from_secs(3)),
        bounds: Bounds { memory: 320.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "interleaved_pieces_that_never_end",
        faults: "table",
        about: "8 sessions, each with 100 requests begun and continued in turn, none ended",
        attack: |field| {
            let piece = vec![b' '; 1_000];
            field.sessions(8, |_, session| {
                let ids: Vec<_> = (0..100).map(|_| session.next_id()).collect();
                field.at_rate(500, |turn| {
                    session.send(&packet::packet(REQUEST, MORE, ids[turn % ids.len()], &piece))?;
                    session.connection.discard(1 << 20).map(drop)
                })
            });
        },
        bounds: Bounds { memory: 128.0, ..BOUNDS },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "empty_pieces",
        faults: "table",
        about: "4 sessions with 2,000 empty pieces a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                let id = session.next_id();
                let pieces = packet::packet(REQUEST, MORE, id, b"").repeat(20);
                flood(field, session, 100, |_| pieces.clone())
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "cancelled_between_pieces",
        faults: "table",
        about: "4 sessions that begin and cancel 500 requests a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                let first = session.next_id();
                flood(field, session, 500, |turn| {
                    let id = first + 2 * turn as u32;
                    [packet::packet(REQUEST, MORE, id, b"{"), packet::packet(CANCEL, 0, id, b"{}")].concat()
                })
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "pieces_beyond_the_limit",
        faults: "table",
        about: "2 sessions whose requests pass 16 MiB and go on",
        attack: |field| {
            let piece = vec![b'"'; 65536];
            field.sessions(2, |_, session| {
                let id = session.next_id();
                flood(field, session, 300, |_| packet::packet(REQUEST, MORE, id, &piece))
            });
        },
        is_short: false,
        bounds: Bounds { memory: 96.0, ..BOUNDS },
        ..USUAL
    },
];

/// Writes packets to a session at a rate, and drops what it answers. Fails when the session has ended.
pub(super) fn flood(
    field: &Field<'_>,
    session: &mut Session,
    a_second: u32,
    packets: impl Fn(usize) -> Vec<u8>,
) -> std::io::Result<()> {
    field.at_rate(a_second, |turn| {
        session.send(&packets(turn)).and_then(|()| session.connection.discard(1 << 20)).map(drop)
    })
}

/// Writes a request in pieces of 64 KiB, at 200 MB/s at most, and stops at the end of the attack.
pub(super) fn send_in_pieces(
    field: &Field<'_>,
    session: &mut Session,
    id: u32,
    text: &[u8],
) -> std::io::Result<()> {
    let mut rest = text.chunks(65536).peekable();
    while let Some(piece) = rest.next() {
        let more = if rest.peek().is_some() { MORE } else { 0 };
        session.send(&packet::packet(REQUEST, more, id, piece))?;
        field.sleep(Duration::from_micros(300));
    }
    Ok(())
}

/// Returns the text of a call that sleeps, filled up to so many bytes.
fn sleep_text(seconds: f64, bytes: usize) -> Vec<u8> {
    let start = format!(r#"{{"method":"sleep","payload":{seconds},"pad":""#);
    let mut text = start.into_bytes();
    text.resize(bytes.max(text.len() + 2) - 2, b'p');
    text.extend_from_slice(b"\"}");
    text
}

/// Lets all of them send all but a byte, wait for each other, and send the last one.
fn bodies_at_once(field: &Field<'_>) {
    let (count, whole) = (64, packet::classic(REQUEST, 0, 0, &sleep_text(0.3, MAX_BODY)));
    let (barrier, answered, refused) = (Barrier::new(count), AtomicUsize::new(0), AtomicUsize::new(0));
    field.crowd(count, |number| {
        let sent = field.either(number).connect().and_then(|mut connection| {
            connection.write_within(Duration::from_secs(5))?;
            connection.wait_at_most(Duration::from_secs(10))?;
            trickle(&mut connection, &whole[..whole.len() - 1]).map(|()| connection)
        });
        barrier.wait();
        let answer = match sent {
            Ok(mut connection) => {
                let _ = connection.send(&whole[whole.len() - 1..]);
                connection.answer()
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if answer.kind == GOOD => answered.fetch_add(1, Ordering::Relaxed),
            Ok(answer) if answer.kind == BAD => refused.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    });
    let (answered, refused) = (answered.into_inner(), refused.into_inner());
    field.tell("answered", answered as f64);
    field.at_least("answered or refused", (answered + refused) as f64, count as f64);
}

/// Writes with pauses: 64 of them send some 300 MB/s. Stops where the server has answered already.
fn trickle(connection: &mut Connection, bytes: &[u8]) -> std::io::Result<()> {
    for block in bytes.chunks(1 << 18) {
        if connection.send(block).is_err() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(40));
    }
    Ok(())
}

fn session_bodies_at_once(field: &Field<'_>) {
    let (count, text) = (64, sleep_text(0.3, MAX_BODY));
    let (barrier, ended) = (Barrier::new(count), AtomicUsize::new(0));
    field.crowd(count, |number| {
        let mut session = field.either(number).session();
        let begun =
            session.as_mut().map_err(|error| std::io::Error::from(error.kind())).and_then(|session| {
                session.connection.write_within(Duration::from_secs(5))?;
                session.connection.wait_at_most(Duration::from_secs(10))?;
                let id = session.next_id();
                for piece in text[..MAX_BODY - 1].chunks(65536) {
                    session.send(&packet::packet(REQUEST, MORE, id, piece))?;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(id)
            });
        barrier.wait();
        if let (Ok(session), Ok(id)) = (&mut session, begun) {
            let _ = session.send(&packet::packet(REQUEST, 0, id, &text[MAX_BODY - 1..]));
            ended.fetch_add(usize::from(session.end_of(id).is_ok()), Ordering::Relaxed);
        }
    });
    field.at_least("answered or refused", ended.into_inner() as f64, count as f64);
}

/// Sends a body of 16 MiB in pieces, and small calls between them, on one session. The reader measures the small ones.
fn small_beside_large(field: &Field<'_>) {
    let large = packet::long_text("echo", MAX_BODY - 100);
    let mut times = Vec::new();
    let measured = field.unix().session().and_then(|mut session| {
        session.connection.wait_at_most(Duration::from_secs(5))?;
        session.connection.write_within(Duration::from_secs(5))?;
        while !field.is_over() {
            let began = Instant::now();
            let id = session.next_id();
            let mut rest = large.as_bytes().chunks(65536).peekable();
            while let Some(piece) = rest.next() {
                let more = if rest.peek().is_some() { MORE } else { 0 };
                session.send(&packet::packet(REQUEST, more, id, piece))?;
                // A small call behind each eighth piece.
                if rest.len().is_multiple_of(8) {
                    let called = Instant::now();
                    let small = session.begin(0, packet::text("echo", "1").as_bytes())?;
                    while session.receive()?.id != small {}
                    times.push(called.elapsed());
                }
            }
            session.end_of(id)?;
            field.sleep(Duration::from_millis(500).saturating_sub(began.elapsed()));
        }
        Ok(())
    });
    field.at_least("session held", f64::from(u8::from(measured.is_ok())), 1.0);
    field.at_most("p99 ms on that session", statistics::percentile(&mut times, 99).as_secs_f64() * 1e3, 15.0);
}

/// Calls of ever smaller size, each as large as the server takes it, all of them slow.
fn fill_the_budget(field: &Field<'_>) {
    let filled = field.unix().session().and_then(|mut session| {
        session.connection.write_within(Duration::from_secs(3))?;
        let sizes = std::iter::repeat_n(MAX_BODY, 15).chain((0..14).map(|halving| (MAX_BODY / 2) >> halving));
        for size in sizes {
            let id = session.next_id();
            send_in_pieces(field, &mut session, id, &sleep_text(30.0, size))?;
            let _ = session.connection.discard(1 << 20)?;
        }
        field.hold();
        Ok(())
    });
    let _ = filled;
    field.hold();
}

fn unfinished_pieces(field: &Field<'_>) {
    let mut sessions = field.open_sessions(50);
    let piece = vec![b' '; 65536];
    let ids: Vec<_> = sessions.iter_mut().map(Session::next_id).collect();
    for _ in 0..128 {
        for (session, id) in sessions.iter_mut().zip(&ids) {
            let _ = session.send(&packet::packet(REQUEST, MORE, *id, &piece));
        }
        field.sleep(Duration::from_millis(10));
    }
    field.steadily(50, |turn| {
        let place = turn % sessions.len();
        let _ = sessions[place].send(&packet::packet(REQUEST, MORE, ids[place], &piece[..1_300]));
        Ok(())
    });
}

fn unfinished_classic(field: &Field<'_>) {
    let header = packet::header(REQUEST, 0, 0, MAX_BODY as u32);
    let mut connections: Vec<_> = (0..50).filter_map(|turn| field.either(turn).connect().ok()).collect();
    for connection in &mut connections {
        let _ = connection.send(&header);
    }
    let block = vec![b' '; 65536];
    for _ in 0..128 {
        for connection in &mut connections {
            let _ = connection.send(&block);
        }
        field.sleep(Duration::from_millis(10));
    }
    field.steadily(50, |turn| {
        let place = turn % connections.len();
        let _ = connections[place].send(&block[..1_300]);
        Ok(())
    });
}

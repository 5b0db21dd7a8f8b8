//! Packets that no client sends, or none sends so often.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::bodies::flood;
use crate::connection::Session;
use crate::field::Field;
use crate::packet::{self, CANCEL, CREDIT, GOOD, GOODBYE, ITEM, PING, PONG, REQUEST, STREAM, packet};
use crate::scenario::{BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ping_flood",
        faults: "table",
        about: "4 sessions with 5,000 PINGs a second each",
        attack: |field| floods(field, 4, 100, |_, _| packet(PING, 0, 0, b"{}").repeat(50)),
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "large_ping_flood",
        faults: "table",
        about: "4 sessions with 2,000 PINGs of 1,024 bytes a second each, whose PONGs are not read",
        attack: |field| {
            let ping = format!(r#"{{"p":"{}"}}"#, "p".repeat(1_000));
            let pings = packet(PING, 0, 0, ping.as_bytes()).repeat(20);
            field
                .sessions(4, |_, session| field.at_rate(100, |_| session.connection.offer(&pings).map(drop)));
        },
        is_short: false,
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "pong_flood",
        faults: "H4",
        about: "4 sessions with 10,000 PONGs a second each",
        attack: |field| floods(field, 4, 100, |_, _| packet(PONG, 0, 0, b"{}").repeat(100)),
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "unknown_packets",
        faults: "table",
        about: "4 sessions with 63 unknown packets and a known one, 100 times a second",
        attack: |field| {
            let unknown: Vec<u8> = (10..73).flat_map(|kind| packet(kind, 0xff, u32::MAX, b"?")).collect();
            let burst = [unknown, packet(PONG, 0, 0, b"{}").repeat(64)].concat();
            floods(field, 4, 100, |_, _| burst.clone());
        },
        bounds: FLOOD,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "too_many_unknown_packets",
        faults: "table",
        about: "sessions with 65 unknown packets, 100 a second; each is ended",
        attack: |field| ended(field, 100, &packet(200, 0, 0, b"?").repeat(65)),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "goodbye_flood",
        faults: "H5",
        about: "sessions that say GOODBYE at once, 200 a second; each is ended",
        attack: |field| ended(field, 200, &packet(GOODBYE, 0, 0, b"{}")),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "goodbyes_without_an_end",
        faults: "H5",
        about: "4 sessions with a slow call and 2,000 GOODBYEs a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                session.begin(0, packet::text("sleep", "30").as_bytes())?;
                flood(field, session, 100, |_| packet(GOODBYE, 0, 0, b"{}").repeat(20))
            });
        },
        is_short: false,
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "cancel_of_unknown_calls",
        faults: "table",
        about: "4 sessions with 5,000 CANCELs of finished calls a second each, and such as end the session",
        attack: |field| {
            field.sessions(4, |number, session| {
                for _ in 0..20 {
                    session.ask(&packet::text("echo", "1"))?;
                }
                let id = if number == 3 { 9_999 } else { 5 };
                flood(field, session, 100, |_| packet(CANCEL, 0, id, b"{}").repeat(50))
            });
        },
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "credit_for_finished_calls",
        faults: "table",
        about: "4 sessions with 5,000 CREDITs for finished calls a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                session.ask(&packet::text("echo", "1"))?;
                let credit = packet(CREDIT, 0, 3, br#"{"items":1,"bytes":1}"#).repeat(50);
                flood(field, session, 100, |_| credit.clone())
            });
        },
        is_short: false,
        bounds: FLOOD,
        ..USUAL
    },
    Scenario {
        name: "credit_overflows",
        faults: "table",
        about: "4 sessions with a stream and 1,000 CREDITs of 2^53 - 1 a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                let id = session
                    .begin(STREAM, br#"{"method":"count","payload":{"n":1000000,"interval_ms":5}}"#)?;
                let credit = packet(CREDIT, 0, id, br#"{"items":9007199254740991,"bytes":9007199254740991}"#)
                    .repeat(10);
                flood(field, session, 100, |_| credit.clone())
            });
        },
        bounds: FLOOD,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "credit_that_is_no_number",
        faults: "table",
        about: "sessions with a CREDIT of -1 items, 100 a second; each is ended",
        attack: |field| {
            let call =
                packet(REQUEST, STREAM, 3, br#"{"method":"count","payload":{"n":1000,"interval_ms":50}}"#);
            ended(field, 100, &[call, packet(CREDIT, 0, 3, br#"{"items":-1}"#)].concat());
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "answers_to_calls_never_made",
        faults: "table",
        about: "sessions with a GOOD for a call that the server never made, 100 a second; each is ended",
        attack: |field| ended(field, 100, &packet(GOOD, 0, 2, b"{}")),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "items_for_the_server",
        faults: "table",
        about: "sessions with an ITEM for a call that the server never made, 100 a second; each is ended",
        attack: |field| ended(field, 100, &packet(ITEM, 0, 2, b"{}")),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "ids_out_of_order",
        faults: "table",
        about: "sessions whose ids go down, 100 a second; each is ended",
        attack: |field| {
            let calls = [9, 7].map(|id| packet::call(id, &packet::text("echo", "1"))).concat();
            ended(field, 100, &calls);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "huge_ids",
        faults: "table",
        about: "sessions that use the highest id first and then go on, 100 a second; each is ended",
        attack: |field| {
            let calls = [u32::MAX, 3].map(|id| packet::call(id, &packet::text("echo", "1"))).concat();
            ended(field, 100, &calls);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "ids_far_apart",
        faults: "table",
        about: "4 sessions with 500 calls a second each whose ids are 4,096 apart; all are answered",
        attack: |field| {
            let (sent, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
            field.sessions(4, |_, session| {
                field.at_rate(500, |turn| {
                    let id = 3 + 4_096 * (turn as u32 + 1);
                    sent.fetch_add(1, Ordering::Relaxed);
                    session
                        .send(&packet::call(id, &packet::text("echo", "1")))
                        .and_then(|()| session.end_of(id))
                        .map(|_| {
                            answered.fetch_add(1, Ordering::Relaxed);
                        })
                })
            });
            let missed = sent.into_inner() - answered.into_inner();
            field.at_most("calls not answered", missed as f64, 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "late_packets",
        faults: "table",
        about: "4 sessions whose calls are cancelled, credited and cancelled again after their end",
        attack: |field| {
            let ended = AtomicUsize::new(0);
            field.sessions(4, |_, session| {
                let lost = field.at_rate(300, |_| {
                    session.ask(&packet::text("echo", "1")).and_then(|_| {
                        let id = session.next_id() - 2;
                        session.send(&packet(CANCEL, 0, id, b""))?;
                        session.send(&packet(CREDIT, 0, id, b"{}"))?;
                        session.send(&packet(CANCEL, 0, id, b"{}"))
                    })
                });
                ended.fetch_add(usize::from(lost.is_err()), Ordering::Relaxed);
                lost
            });
            field.at_most("sessions ended", ended.into_inner() as f64, 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "random_packets",
        faults: "table",
        about: "sessions with 20 packets of random kinds, flags, ids and contents, 100 a second",
        attack: |field| {
            field.steadily(100, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let random = packet::noise(turn, 20 * 24);
                let packets: Vec<u8> = random
                    .chunks(24)
                    .flat_map(|chunk| packet(chunk[0] % 12, chunk[1], u32::from(chunk[2] % 16), &chunk[4..]))
                    .collect();
                let _ = session.send(&packets);
                let _ = session.connection.ends_within(Duration::from_millis(100));
                Ok(())
            });
        },
        ..USUAL
    },
    Scenario {
        name: "random_bytes_in_sessions",
        faults: "table",
        about: "sessions with 2,000 random bytes, 100 a second; each is ended",
        attack: |field| ended(field, 100, &packet::noise(3, 2_000)),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "sending_on_after_the_end",
        faults: "table",
        about: "10 sessions that break the rules and send on, 40 MB/s together",
        attack: |field| {
            let block = packet(PONG, 0, 0, b"{}").repeat(3_500);
            field.sessions(10, |_, session| {
                session.send(&packet(GOOD, 0, 2, b"{}"))?;
                field.at_rate(64, |_| session.connection.offer(&block).map(drop))
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "byte_by_byte_sessions",
        faults: "table",
        about: "50 sessions, a byte of a call each 20 ms; all are answered",
        attack: byte_by_byte,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "packets_cut_short",
        faults: "table",
        about: "sessions that end inside a packet, 200 a second",
        attack: |field| {
            let call = packet::call(3, &packet::text("echo", "1"));
            field.steadily(200, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let _ = session.send(&call[..1 + turn % (call.len() - 1)]);
                if turn % 3 == 0 {
                    session.connection.reset();
                }
                Ok(())
            });
        },
        is_short: false,
        ..USUAL
    },
];

/// Packets are read and dropped, and nothing is kept for them.
const FLOOD: Bounds = Bounds { memory: 32.0, ..BOUNDS };

/// Opens so many sessions, each with such packets so many times a second. A session that is ended comes again.
fn floods(
    field: &Field<'_>,
    sessions: usize,
    a_second: u32,
    packets: impl Fn(usize, usize) -> Vec<u8> + Sync,
) {
    field.sessions(sessions, |number, session| flood(field, session, a_second, |turn| packets(number, turn)));
}

/// Opens sessions at a rate, sends what ends them, and counts those that are not ended.
fn ended(field: &Field<'_>, a_second: u32, bytes: &[u8]) {
    let mut kept = 0_u32;
    field.steadily(a_second, |turn| {
        let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
        let _ = session.send(bytes);
        kept += u32::from(!session.connection.ends_within(Duration::from_secs(1)));
        Ok(())
    });
    field.at_most("not ended", f64::from(kept), 0.0);
}

fn byte_by_byte(field: &Field<'_>) {
    let mut sessions = field.open_sessions(50);
    let ids: Vec<_> = sessions.iter_mut().map(Session::next_id).collect();
    let call = packet::call(3, &packet::text("echo", "1"));
    for byte in &call {
        for session in &mut sessions {
            let _ = session.send(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let answers: Vec<io::Result<_>> =
        sessions.iter_mut().zip(&ids).map(|(session, id)| session.end_of(*id)).collect();
    let answered = answers.iter().flatten().filter(|answer| answer.kind == GOOD).count();
    field.at_least("answered", answered as f64, 50.0);
}

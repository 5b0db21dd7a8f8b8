//! Calls that take places: many, slow ones, and such as their callers have forgotten.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::connection::{At, Session};
use crate::field::Field;
use crate::packet::{self, BAD, CANCEL, GOOD, HELLO, ONE_WAY, REQUEST, STREAM};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "slow_calls_of_nine_sessions",
        faults: "part 3",
        about: "9 sessions, full of slow calls",
        attack: |field| slow_calls(field, 9, 127),
        targets: ALL_SERVERS,
        // The demo server's allocator gives the memory of 800 threads back over 10 s, and these end after 5 s. 26 MiB
        // were resident after 8 s, 16 after 16 s, 9 after 20 s.
        bounds: Bounds { rest: Duration::from_secs(30), ..FULL },
        ..USUAL
    },
    Scenario {
        name: "slow_calls_of_many_sessions",
        faults: "part 3",
        about: "100 sessions with 20 slow calls each",
        attack: |field| slow_calls(field, 100, 20),
        is_apart: true,
        is_short: false,
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "slow_classic_calls",
        faults: "part 3",
        about: "1,100 connections with a slow call each; those that are refused come again",
        attack: |field| slow_classic(field, false),
        is_apart: true,
        is_short: false,
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "callers_that_have_gone",
        faults: "H18",
        about: "1,100 connections with a slow call each, closed at once, over TCP with a reset",
        attack: |field| slow_classic(field, true),
        targets: ALL_SERVERS,
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "sessions_that_have_gone",
        faults: "H18",
        about: "sessions with 127 slow calls each, closed at once, 10 a second",
        attack: |field| {
            field.steadily(10, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let _ = begin_slow(&mut session, 127, 0, 30.0);
                Ok(())
            });
        },
        bounds: FULL,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "one_way_callers_that_have_gone",
        faults: "H18",
        about: "sessions with 127 slow calls each that want no answer, closed at once, 5 a second",
        attack: |field| {
            field.steadily(5, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                // They go on without their caller, so they are shorter.
                let _ = begin_slow(&mut session, 127, ONE_WAY, 4.0);
                Ok(())
            });
        },
        is_short: false,
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "protocol_methods_on_a_full_server",
        faults: "H19",
        about: "4 sessions with 30 slow calls at a server of 64; `$/ping`, `$/stats`, `$/describe` are answered",
        attack: protocol_methods,
        settings: &[("max_concurrent_calls", 64)],
        // The address of the attackers has its share, and more than that when others come.
        is_apart: true,
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "requests_and_cancels",
        faults: "table",
        about: "20,000 slow calls that are cancelled at once, 4,000 a second; no session is ended",
        attack: requests_and_cancels,
        time: (Duration::from_secs(5), Duration::from_millis(1_500)),
        bounds: Bounds { memory: 16.0, threads: 600, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "calls_beyond_the_limit",
        faults: "table",
        about: "4 sessions that make 1,000 calls in a write, 5 times a second; each is answered or refused",
        attack: |field| {
            let (sent, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
            field.sessions(4, |_, session| {
                field.at_rate(5, |_| {
                    let calls: Vec<u8> = (0..1_000)
                        .flat_map(|_| packet::call(session.next_id(), &packet::text("echo", "1")))
                        .collect();
                    session.send(&calls)?;
                    sent.fetch_add(1_000, Ordering::Relaxed);
                    for _ in 0..1_000 {
                        let answer = session.receive()?;
                        answered.fetch_add(usize::from(matches!(answer.kind, GOOD | BAD)), Ordering::Relaxed);
                    }
                    Ok(())
                })
            });
            let missed = sent.into_inner() - answered.into_inner();
            field.at_most("calls without an end", missed as f64, 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "one_way_bursts",
        faults: "G-B",
        about: "bursts of 5,000 calls that want no answer, in one write; each is run",
        attack: |field| one_way(field, 5_000, 2),
        targets: &[crate::server::Target::Blocking, crate::server::Target::Tokio],
        ..USUAL
    },
    Scenario {
        name: "one_way_flood",
        faults: "G-B",
        about: "4 sessions with 1,000 calls a second each that want no answer; each is run",
        attack: |field| one_way(field, 20, 50),
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "the_stream_flag_and_the_time_limit",
        faults: "H2",
        about: "slow calls with every flag at a server whose handlers have 300 ms; each ends in time",
        attack: stream_flag,
        settings: &[("timeout", 300)],
        ..USUAL
    },
    Scenario {
        name: "reverse_calls_never_answered",
        faults: "part 3",
        about: "9 sessions that have the server call them 127 times each, and do not answer",
        attack: |field| {
            reverse(field, 9, |session| {
                let call = packet::text("call_me", r#"{"method":"told","payload":1}"#);
                for _ in 0..126 {
                    session.begin(0, call.as_bytes())?;
                }
                field.hold();
                Ok(())
            });
        },
        bounds: FULL,
        ..USUAL
    },
    Scenario {
        name: "reverse_calls_given_up",
        faults: "G-E",
        about: "2 sessions that read nothing are called 2,000 times each with 20 KB and a limit of 1 ms",
        attack: |field| {
            reverse(field, 2, |session| {
                let often = r#"{"calls":2000,"bytes":20000,"limit_ms":1}"#;
                session.begin(0, packet::text("call_often", often).as_bytes())?;
                field.hold();
                Ok(())
            });
        },
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        bounds: Bounds { memory: 32.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "large_reverse_answers",
        faults: "table",
        about: "2 sessions that answer the server's calls with 8 MiB, once a second each",
        attack: |field| {
            let answer = format!(r#"{{"payload":"{}"}}"#, "r".repeat(8 << 20));
            reverse(field, 2, |session| {
                let mut own = 0;
                field.at_rate(1, |_| {
                    own += 2;
                    session.begin(0, packet::text("call_me", r#"{"method":"told"}"#).as_bytes())?;
                    let called = loop {
                        let read = session.receive()?;
                        if read.kind == REQUEST {
                            break read.id;
                        }
                    };
                    let mut rest = answer.as_bytes().chunks(65536).peekable();
                    while let Some(piece) = rest.next() {
                        let more = if rest.peek().is_some() { packet::MORE } else { 0 };
                        session.send(&packet::packet(GOOD, more, called, piece))?;
                    }
                    let _ = session.connection.discard(16 << 20)?;
                    Ok(())
                })
            });
        },
        is_short: false,
        bounds: Bounds { memory: 128.0, ..BOUNDS },
        ..USUAL
    },
];

/// All places of a blocking server have a thread.
const FULL: Bounds = Bounds { memory: 128.0, threads: 1_150, ..BOUNDS };

fn begin_slow(session: &mut Session, calls: usize, flags: u8, seconds: f64) -> io::Result<()> {
    let text = packet::text("sleep", &seconds.to_string());
    let calls: Vec<u8> =
        (0..calls).flat_map(|_| packet::packet(REQUEST, flags, session.next_id(), text.as_bytes())).collect();
    session.send(&calls)
}

/// Keeps so many slow calls in flight on so many sessions. Those that are refused come again.
fn slow_calls(field: &Field<'_>, sessions: usize, calls: usize) {
    let mut open = field.open_sessions(sessions);
    for session in &mut open {
        let _ = begin_slow(session, calls, 0, 30.0);
    }
    field.tell("sessions", open.len() as f64);
    field.steadily(20, |turn| {
        if let Some(session) = open.get_mut(turn % sessions) {
            let refused = session.connection.discard(1 << 20).unwrap_or_default();
            // A refusal has some hundred bytes.
            let _ = begin_slow(session, (refused / 150).min(20), 0, 30.0);
        }
        Ok(())
    });
}

/// Connections with a slow call, 500 a second, up to 1,100 at a time.
fn slow_classic(field: &Field<'_>, close: bool) {
    let call = packet::request(&packet::text("sleep", "30"));
    let (mut kept, mut sent) = (std::collections::VecDeque::new(), 0_u32);
    field.steadily(500, |turn| {
        if close && sent >= 1_100 {
            return Ok(());
        }
        // Over TCP a caller that has closed looks as one that only sends no more, and is waited for by a server with places.
        let at = if close { field.unix() } else { field.either(turn) };
        let Ok(mut connection) = at.connect() else { return Ok(()) };
        if connection.send(&call).is_ok() {
            sent += 1;
            if close {
                // Over TCP only a reset tells more than that the sending direction is closed.
                connection.reset();
            } else {
                kept.push_back(connection);
            }
        }
        if kept.len() > 1_100
            && let Some(oldest) = kept.pop_front()
        {
            // Without a reset it would look as one that only sends no more, and have its call for 30 s.
            oldest.reset();
        }
        Ok(())
    });
    field.tell("calls", f64::from(sent));
    kept.into_iter().for_each(crate::connection::Connection::reset);
}

/// Fills the server, and asks for what needs no place.
fn protocol_methods(field: &Field<'_>) {
    let mut open = field.open_sessions(4);
    for session in &mut open {
        let _ = begin_slow(session, 30, 0, 30.0);
    }
    field.sleep(Duration::from_millis(200));
    let (mut asked, mut answered) = (0_u32, 0_u32);
    field.steadily(30, |turn| {
        let method = ["$/ping", "$/stats", "$/describe"][turn % 3];
        let ask = |at: &At| match turn % 2 {
            0 => at.ask(&packet::text(method, "1")),
            _ => at.session()?.ask(&packet::text(method, "1")),
        };
        asked += 1;
        answered += u32::from(ask(field.either(turn / 6)).is_ok_and(|answer| answer.kind == GOOD));
        Ok(())
    });
    field.at_least(
        "protocol methods answered, of a hundred",
        100.0 * f64::from(answered) / f64::from(asked.max(1)),
        99.0,
    );
}

fn requests_and_cancels(field: &Field<'_>) {
    let (ended, cancelled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    field.sessions(4, |_, session| {
        let text = packet::text("sleep", "30");
        let lost = field.at_rate(100, |_| {
            let pairs: Vec<u8> = (0..10)
                .flat_map(|_| {
                    let id = session.next_id();
                    [packet::call(id, &text), packet::packet(CANCEL, 0, id, b"{}")].concat()
                })
                .collect();
            session.send(&pairs)?;
            cancelled.fetch_add(10, Ordering::Relaxed);
            session.connection.discard(1 << 20).map(drop)
        });
        ended.fetch_add(usize::from(lost.is_err()), Ordering::Relaxed);
        lost
    });
    field.tell("calls", cancelled.into_inner() as f64);
    field.at_most("sessions ended", ended.into_inner() as f64, 0.0);
}

/// Sends bursts, and looks how many were run in the end.
fn one_way(field: &Field<'_>, burst: usize, a_second: u32) {
    let sent = AtomicUsize::new(0);
    let noted = |at: &At| -> Option<usize> {
        let answer = at.ask(&packet::text("noted", "null")).ok()?;
        let text = String::from_utf8(answer.content).ok()?;
        text.strip_prefix(r#"{"payload":"#)?.strip_suffix('}')?.parse().ok()
    };
    let before = noted(field.unix());
    let sessions = if burst > 1_000 { 1 } else { 4 };
    field.sessions(sessions, |_, session| {
        session.connection.write_within(Duration::from_secs(3))?;
        field.at_rate(a_second, |_| {
            let calls: Vec<u8> = (0..burst)
                .flat_map(|_| packet::packet(REQUEST, ONE_WAY, session.next_id(), br#"{"method":"note"}"#))
                .collect();
            session.send(&calls)?;
            sent.fetch_add(burst, Ordering::Relaxed);
            Ok(())
        })?;
        // The session is read to its end only while it is open.
        session.ask(&packet::text("echo", "1")).map(drop)
    });
    let mut after = noted(field.unix());
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(20));
        after = noted(field.unix());
    }
    let run = after.unwrap_or_default().saturating_sub(before.unwrap_or_default());
    let sent = sent.into_inner();
    field.tell("calls", sent as f64);
    field.at_most("calls not run", sent.saturating_sub(run) as f64, 0.0);
}

/// Calls of a slow method, with flags that say it were something else; and calls that ask for more time than there is.
fn stream_flag(field: &Field<'_>) {
    let (beyond, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    field.sessions(4, |number, session| {
        let flags = if number == 3 { 0 } else { STREAM };
        let asked = if number == 2 { r#","timeout_ms":3600000"# } else { "" };
        let text = format!(r#"{{"method":"sleep","payload":20{asked}}}"#);
        field.at_rate(2, |_| {
            sent.fetch_add(1, Ordering::Relaxed);
            let id = session.begin(flags, text.as_bytes())?;
            // The reader waits for a second at most.
            let in_time =
                session.end_of(id).is_ok_and(|answer| answer.kind == BAD && answer.holds("timeout"));
            beyond.fetch_add(usize::from(!in_time), Ordering::Relaxed);
            Ok(())
        })
    });
    field.at_least("calls", sent.into_inner() as f64, 4.0);
    field.at_most("calls beyond the limit", beyond.into_inner() as f64, 0.0);
}

/// Sessions that take calls.
fn reverse(field: &Field<'_>, sessions: usize, act: impl Fn(&mut Session) -> io::Result<()> + Sync) {
    field.sessions(sessions, |_, session| {
        session.tell(HELLO, r#"{"session":1,"max_calls":1000}"#)?;
        act(session)
    });
}

//! Subscribers that do not read or have gone, and patterns that are costly to match.

use std::io;
use std::time::{Duration, Instant};

use crate::connection::Session;
use crate::field::Field;
use crate::packet::{self, BAD, CANCEL, GOOD, HELLO, STREAM};
use crate::scenario::{BOUNDS, Bounds, Scenario, USUAL};
use crate::statistics;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "subscribers_that_have_gone",
        faults: "H15",
        about: "10 subscribers that take nothing, 33 MB of events for each, and all are gone",
        attack: |field| unread(field, 10, 33),
        targets: crate::scenario::ALL_SERVERS,
        time: (Duration::from_secs(5), Duration::from_secs(4)),
        bounds: QUEUED,
        ..USUAL
    },
    Scenario {
        name: "subscribers_that_do_not_read",
        faults: "table",
        about: "40 subscribers that take nothing, events of 100 KB for all, 100 a second",
        attack: |field| {
            let mut open = field.open_sessions(40);
            for session in &mut open {
                let _ = subscribe(session, r#"["*"]"#);
            }
            let Ok(mut publisher) = field.unix().session() else { return };
            let event = event("t.x", 100_000);
            field.steadily(100, |_| publisher.ask(&event).map(drop));
        },
        time: (Duration::from_secs(5), Duration::from_secs(2)),
        bounds: QUEUED,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "many_subscriptions",
        faults: "H16",
        about: "20 sessions with 127 subscriptions of 250 topics each, and 2 that publish 20 events a second",
        attack: many_subscriptions,
        time: (Duration::from_secs(6), Duration::from_secs(4)),
        // Their topics are small, and allocators keep pages for what is small.
        bounds: Bounds { memory: 128.0, memory_after: 64.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "long_patterns",
        faults: "table",
        about: "20 subscriptions of 500 patterns of 50 wildcards, events of 50 segments, 20 a second",
        attack: long_patterns,
        is_short: false,
        bounds: Bounds { memory: 64.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "subscription_churn",
        faults: "table",
        about: "4 sessions that subscribe and cancel 200 times a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                field.at_rate(200, |_| {
                    let id = subscribe(session, r#"["a.*","b.c"]"#)?;
                    session.send(&packet::packet(CANCEL, 0, id, b"{}"))?;
                    session.end_of(id).map(drop)
                })
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "subscribers_that_come_and_go",
        faults: "H15",
        about: "sessions that subscribe and close without a word, 100 a second, beside a publisher",
        attack: |field| {
            field.crowd(2, |number| {
                if number == 0 {
                    let event = event("t.x", 1_000);
                    field.steadily(100, |turn| field.either(turn).ask(&event).map(drop));
                } else {
                    field.steadily(100, |turn| {
                        let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                        let _ = subscribe(&mut session, r#"["*"]"#);
                        Ok(())
                    });
                }
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "event_flood",
        faults: "table",
        about: "20 subscribers that read, and 2 sessions that publish 500 events a second each",
        attack: |field| {
            let mut readers = field.open_sessions(20);
            for session in &mut readers {
                let _ = subscribe(session, r#"["*"]"#);
            }
            let text = event("t.x", 100);
            field.crowd(3, |number| {
                if number == 0 {
                    field.steadily(20, |_| {
                        for reader in &readers {
                            let _ = reader.connection.discard(1 << 20);
                        }
                        Ok(())
                    });
                } else if let Ok(mut publisher) = field.unix().session() {
                    field.steadily(500, |_| publisher.ask(&text).map(drop));
                }
            });
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "subscriptions_that_are_none",
        faults: "table",
        about: "`$/subscribe` without topics, without STREAM, with numbers, with 100,000 topics, 60 a second",
        attack: wrong_subscriptions,
        is_short: false,
        bounds: Bounds { memory: 96.0, ..BOUNDS },
        ..USUAL
    },
];

/// Events share a budget with answers, and have 32 MiB a session.
const QUEUED: Bounds = Bounds { memory: 320.0, ..BOUNDS };

/// Subscribes, with a window of one item where nothing else was said.
fn subscribe(session: &mut Session, topics: &str) -> io::Result<u32> {
    let text = packet::text("$/subscribe", &format!(r#"{{"topics":{topics}}}"#));
    session.begin(STREAM, text.as_bytes())
}

fn event(topic: &str, bytes: usize) -> String {
    let payload = "e".repeat(bytes);
    packet::text("publish", &format!(r#"{{"topic":"{topic}","payload":"{payload}"}}"#))
}

/// Subscribers with topics of their own that take one item, and so many megabytes for each.
fn unread(field: &Field<'_>, subscribers: usize, megabytes: usize) {
    let mut open = field.open_sessions(subscribers);
    for (number, session) in open.iter_mut().enumerate() {
        let _ = session.tell(HELLO, r#"{"session":1,"stream_window":1}"#);
        let _ = subscribe(session, &format!(r#"["t{number}.*"]"#));
    }
    let Ok(mut publisher) = field.unix().session() else { return };
    let mut published = 0_u32;
    for number in 0..open.len() {
        let event = event(&format!("t{number}.x"), 1_000_000);
        for _ in 0..megabytes {
            if field.is_over() || publisher.ask(&event).is_err() {
                break;
            }
            published += 1;
            field.sleep(Duration::from_millis(5));
        }
    }
    field.tell("MB published", f64::from(published));
}

/// Subscribes with patterns that match no event, each of which the server looks at.
fn many_subscriptions(field: &Field<'_>) {
    let mut open = field.open_sessions(20);
    let mut begun = 0_u32;
    for session in &mut open {
        for number in 0..126 {
            let topics: Vec<_> = (0..250).map(|topic| format!(r#""*.n{number}.t{topic}""#)).collect();
            let _ = session.connection.discard(1 << 20);
            begun += u32::from(subscribe(session, &format!("[{}]", topics.join(","))).is_ok());
        }
    }
    field.tell("subscriptions", f64::from(begun));
    let times = std::sync::Mutex::new(Vec::new());
    field.crowd(2, |_| {
        let Ok(mut publisher) = field.unix().session() else { return };
        let event = event("a.n7.none", 10);
        field.steadily(20, |_| {
            let began = Instant::now();
            publisher.ask(&event)?;
            times.lock().unwrap().push(began.elapsed());
            Ok(())
        });
    });
    let median = statistics::percentile(&mut times.into_inner().unwrap(), 50);
    field.at_most("ms to publish", median.as_secs_f64() * 1e3, 5.0);
}

fn long_patterns(field: &Field<'_>) {
    let stars = ["*"; 49].join(".");
    let patterns: Vec<_> = (0..500).map(|number| format!(r#""{stars}.n{number}""#)).collect();
    let mut open = field.open_sessions(20);
    for session in &mut open {
        let _ = subscribe(session, &format!("[{}]", patterns.join(",")));
    }
    let Ok(mut publisher) = field.unix().session() else { return };
    let event = event(&["s"; 50].join("."), 10);
    field.steadily(20, |_| publisher.ask(&event).map(drop));
}

fn wrong_subscriptions(field: &Field<'_>) {
    let many = format!("[{}]", vec![r#""t""#; 100_000].join(","));
    let payloads = ["null".to_string(), r#"{"topics":[]}"#.into(), r#"{"topics":[1]}"#.into()];
    let (mut taken, mut session) = (0_u32, None);
    field.steadily(60, |turn| {
        let mut open = match session.take() {
            Some(open) => open,
            None => match field.unix().session() {
                Ok(open) => open,
                Err(_) => return Ok(()),
            },
        };
        let ended: io::Result<packet::Packet> = (|| {
            if turn % 20 == 19 {
                // It may be taken or refused; then it is ended.
                let id = subscribe(&mut open, &many)?;
                open.send(&packet::packet(CANCEL, 0, id, b"{}"))?;
                open.end_of(id)
            } else {
                let text = packet::text("$/subscribe", &payloads[turn % 3]);
                let id = open.begin(if turn % 4 == 0 { 0 } else { STREAM }, text.as_bytes())?;
                open.end_of(id)
            }
        })();
        match ended {
            Ok(answer) => {
                taken += u32::from(answer.kind == GOOD && turn % 20 != 19);
                debug_assert!(matches!(answer.kind, GOOD | BAD));
                session = Some(open);
            }
            Err(_) => taken += 1,
        }
        Ok(())
    });
    field.at_most("not refused", f64::from(taken), 0.0);
}

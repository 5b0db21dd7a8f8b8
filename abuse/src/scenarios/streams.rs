//! Streams whose caller does not take them.

use std::time::Duration;

use crate::field::Field;
use crate::packet::{self, HELLO, STREAM};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "streams_without_credit",
        faults: "H3",
        about: "9 sessions with 127 streams each and no credit at all",
        attack: |field| streams(field, 9, 127, r#"{"session":1,"stream_window":0}"#, 10),
        targets: ALL_SERVERS,
        bounds: Bounds { threads: 1_150, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "streams_that_get_no_more_credit",
        faults: "H3",
        about: "9 sessions with 127 streams each that take the first items only",
        attack: |field| streams(field, 9, 127, r#"{"session":1,"stream_window":8}"#, 1_000_000),
        is_short: false,
        bounds: Bounds { threads: 1_150, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "streams_not_read",
        faults: "table",
        about: "16 sessions with 4 streams each and credit without end, of which nothing is read",
        attack: |field| {
            let hello = r#"{"session":1,"stream_window":9007199254740991,"stream_bytes":9007199254740991}"#;
            unread(field, 16, 4, hello);
        },
        bounds: Bounds { memory: 64.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "streams_begun_and_cancelled",
        faults: "table",
        about: "4 sessions that begin and cancel 500 streams a second each",
        attack: |field| {
            field.sessions(4, |_, session| {
                field.at_rate(100, |_| {
                    for _ in 0..5 {
                        let id = session.begin(STREAM, br#"{"method":"count","payload":{"n":1000}}"#)?;
                        session.send(&packet::packet(packet::CANCEL, 0, id, b"{}"))?;
                    }
                    session.connection.discard(1 << 20).map(drop)
                })
            });
        },
        is_short: false,
        ..USUAL
    },
];

/// Opens sessions with such a HELLO and so many streams each; those that end come again. The sessions say PONG now and then.
fn streams(field: &Field<'_>, sessions: usize, streams: usize, hello: &str, items: u32) {
    let call = format!(r#"{{"method":"count","payload":{{"n":{items}}}}}"#);
    field.sessions(sessions, |_, session| {
        session.tell(HELLO, hello)?;
        for _ in 0..streams {
            session.begin(STREAM, call.as_bytes())?;
        }
        field.at_rate(5, |_| {
            session.tell(packet::PONG, "{}")?;
            session.connection.discard(1 << 20).map(drop)
        })
    });
}

fn unread(field: &Field<'_>, sessions: usize, streams: usize, hello: &str) {
    field.sessions(sessions, |_, session| {
        session.tell(HELLO, hello)?;
        for _ in 0..streams {
            session.begin(STREAM, br#"{"method":"count","payload":{"n":100000000}}"#)?;
        }
        field.sleep(Duration::from_secs(60));
        Ok(())
    });
}

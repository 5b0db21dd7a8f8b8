//! The HELLO of an opener.

use std::io;
use std::time::Duration;

use crate::field::Field;
use crate::packet::{self, HELLO};
use crate::scenario::{ALL_SERVERS, BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hello_with_a_long_name",
        faults: "H8",
        about: "40 idle sessions, each with a name of 16 MiB",
        attack: long_names,
        targets: ALL_SERVERS,
        time: (Duration::from_secs(4), Duration::from_secs(2)),
        // One may be on its way while the others are kept.
        bounds: Bounds { memory: 64.0, ..BOUNDS },
        ..USUAL
    },
    Scenario {
        name: "hello_again_and_again",
        faults: "table",
        about: "sessions with 10 HELLOs each, 100 a second; each is ended",
        attack: |field| {
            let mut kept = 0_u32;
            field.steadily(100, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let _ = session.send(&packet::packet(HELLO, 0, 0, br#"{"session":1}"#).repeat(10));
                kept += u32::from(!session.connection.ends_within(Duration::from_secs(1)));
                Ok(())
            });
            field.at_most("not ended", f64::from(kept), 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "hello_with_a_small_max_body",
        faults: "H12",
        about: "sessions that take 60 bytes make 128 calls each that are answered with 200; each call ends",
        attack: small_max_body,
        ..USUAL
    },
    Scenario {
        name: "hello_with_huge_numbers",
        faults: "table",
        about: "sessions whose HELLO has numbers of 1,000 digits, 50 a second",
        attack: |field| {
            let digits = "9".repeat(1_000);
            let hello = format!(
                r#"{{"session":1,"max_body":{digits},"max_calls":{digits},"stream_window":{digits},"stream_bytes":{digits}}}"#
            );
            let mut unanswered = 0_u32;
            field.steadily(50, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let answer =
                    session.tell(HELLO, &hello).and_then(|()| session.ask(&packet::text("echo", "1")));
                unanswered += u32::from(answer.is_err());
                Ok(())
            });
            field.at_most("calls not answered", f64::from(unanswered), 0.0);
        },
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "hello_with_nothing_to_take",
        faults: "H12",
        about: "sessions that take 0 bytes and no items, 50 a second; each call ends",
        attack: |field| {
            let mut hanging = 0_u32;
            field.steadily(50, |turn| {
                let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
                let hello = r#"{"session":1,"max_body":0,"stream_window":0,"stream_bytes":0}"#;
                let ended =
                    session.tell(HELLO, hello).and_then(|()| session.ask(&packet::text("echo", "\"text\"")));
                hanging += u32::from(is_timeout(&ended));
                Ok(())
            });
            field.at_most("calls without an end", f64::from(hanging), 0.0);
        },
        is_short: false,
        ..USUAL
    },
];

/// Whether a call had no end at all: neither an answer nor the end of its session.
fn is_timeout<T>(ended: &io::Result<T>) -> bool {
    ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn long_names(field: &Field<'_>) {
    let name = "n".repeat((16 << 20) - 30);
    let hello = packet::packet(HELLO, 0, 0, format!(r#"{{"session":1,"name":"{name}"}}"#).as_bytes());
    let mut sessions = Vec::new();
    for turn in 0..40 {
        if field.is_over() {
            break;
        }
        let Ok(mut session) = field.either(turn).session() else { continue };
        let mut sent = Ok(());
        for block in hello.chunks(1 << 18) {
            sent = sent.and_then(|()| session.send(block));
            field.sleep(Duration::from_micros(500));
        }
        if sent.is_ok() && session.ask(&packet::text("echo", "1")).is_ok() {
            sessions.push(session);
        }
    }
    field.tell("sessions with a long name", sessions.len() as f64);
    field.hold();
}

fn small_max_body(field: &Field<'_>) {
    let call = packet::long_text("echo", 200);
    let mut hanging = 0_u32;
    field.steadily(10, |turn| {
        let Ok(mut session) = field.either(turn).session() else { return Ok(()) };
        let hello = session.tell(HELLO, r#"{"session":1,"max_body":60}"#);
        let begun =
            hello.and_then(|()| (0..128).try_for_each(|_| session.begin(0, call.as_bytes()).map(drop)));
        let ended = begun.and_then(|()| (0..128).try_for_each(|_| session.receive().map(drop)));
        hanging += u32::from(is_timeout(&ended));
        Ok(())
    });
    field.at_most("sessions with calls that never end", f64::from(hanging), 0.0);
}

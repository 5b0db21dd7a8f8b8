//! Requests whose text is costly to read.

use crate::field::Field;
use crate::packet::{self, BAD, GOOD};
use crate::scenario::{BOUNDS, Bounds, Scenario, USUAL};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "deep_nesting",
        faults: "table",
        about: "8 MiB of opening brackets, 4 a second, each refused",
        attack: |field| {
            texts(field, 4, Some(BAD), format!(r#"{{"method":"echo","payload":{}"#, "[".repeat(8 << 20)));
        },
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "nesting_at_the_limit",
        faults: "table",
        about: "2 MiB of values that are 126 arrays deep, 4 a second, each answered",
        attack: |field| {
            let deep = format!("{}{}", "[".repeat(125), "]".repeat(125));
            let values = vec![deep; (2 << 20) / 250].join(",");
            texts(field, 4, Some(GOOD), packet::text("echo", &format!("[{values}]")));
        },
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "huge_method_names",
        faults: "table",
        about: "method names of 1 MiB, 30 a second, each refused",
        attack: |field| texts(field, 30, Some(BAD), packet::text(&"m".repeat(1 << 20), "1")),
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "escaped_method_names",
        faults: "table",
        about: "method names of 1 MiB of escapes, 20 a second, each refused",
        attack: |field| texts(field, 20, Some(BAD), packet::text(&"\\u0061".repeat((1 << 20) / 6), "1")),
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "many_escapes",
        faults: "table",
        about: "strings of 4 MiB of escapes, 4 a second, each answered",
        attack: |field| {
            let string = "\\u0041\\n\\\"".repeat((4 << 20) / 10);
            texts(field, 4, Some(GOOD), packet::text("echo", &format!("\"{string}\"")));
        },
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "duplicate_keys",
        faults: "table",
        about: "4 MiB of the key `method` again and again, 4 a second",
        attack: |field| {
            let keys = r#""method":"echo","#.repeat((4 << 20) / 16);
            texts(field, 4, None, format!(r#"{{{keys}"payload":1}}"#));
        },
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "many_unknown_keys",
        faults: "table",
        about: "4 MiB of keys that are all different, 4 a second, each answered",
        attack: |field| {
            let keys: String = (0..300_000).map(|number| format!(r#""k{number:07}":1,"#)).collect();
            texts(field, 4, Some(GOOD), format!(r#"{{{keys}"method":"echo","payload":1}}"#));
        },
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "many_small_values",
        faults: "table",
        about: "6 MiB of empty arrays for a method that takes numbers, 4 a second, each refused",
        attack: |field| {
            let values = vec!["[]"; 2 << 20].join(",");
            texts(field, 4, Some(BAD), packet::text("sum", &format!("[{values}]")));
        },
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "many_numbers",
        faults: "table",
        about: "a million numbers for a method that reads them, 4 a second, each answered",
        attack: |field| {
            let values = vec!["1"; 1 << 20].join(",");
            texts(field, 4, Some(GOOD), packet::text("sum", &format!("[{values}]")));
        },
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "long_numbers",
        faults: "table",
        about: "numbers of 2 MiB of digits for a method that reads them, 4 a second, each refused",
        attack: |field| {
            texts(field, 4, Some(BAD), packet::text("sum", &format!("[{}]", "7".repeat(2 << 20))))
        },
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "large_meta",
        faults: "table",
        about: "100,000 entries of `meta`, 4 a second, each answered",
        attack: |field| {
            let entries: Vec<_> = (0..100_000).map(|number| format!(r#""entry{number}":"v""#)).collect();
            let meta = entries.join(",");
            texts(field, 4, Some(GOOD), format!(r#"{{"method":"echo","payload":1,"meta":{{{meta}}}}}"#));
        },
        bounds: LARGE,
        is_short: false,
        ..USUAL
    },
    Scenario {
        name: "wrong_at_the_last_byte",
        faults: "table",
        about: "8 MiB of text whose last byte is not UTF-8, 4 a second, each refused",
        attack: |field| {
            let mut text = packet::long_text("echo", 8 << 20).into_bytes();
            let last = text.len() - 3;
            text[last] = 0xff;
            bytes(field, 4, Some(BAD), &text);
        },
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
    Scenario {
        name: "white_space",
        faults: "table",
        about: "8 MiB of spaces between two tokens, 4 a second, each answered",
        attack: |field| {
            let spaces = " ".repeat(8 << 20);
            texts(field, 4, Some(GOOD), format!(r#"{{"method":"echo",{spaces}"payload":1}}"#));
        },
        is_short: false,
        bounds: LARGE,
        ..USUAL
    },
];

/// A few of such texts and answers at a time.
const LARGE: Bounds = Bounds { memory: 160.0, ..BOUNDS };

fn texts(field: &Field<'_>, a_second: u32, wanted: Option<u8>, text: String) {
    bytes(field, a_second, wanted, text.as_bytes());
}

/// Calls with such a text, half of them on a session, half on connections of their own. `wanted` is the kind of the answer.
fn bytes(field: &Field<'_>, a_second: u32, wanted: Option<u8>, text: &[u8]) {
    let classic = packet::classic(packet::REQUEST, 0, 0, text);
    let (mut others, mut answers) = (0_u32, 0_u32);
    let mut session = None;
    field.steadily(a_second, |turn| {
        let answer = if turn % 2 == 0 {
            field.either(turn / 2).connect().and_then(|mut connection| {
                // An answer may come before all is sent.
                let _ = connection.send(&classic);
                connection.answer()
            })
        } else {
            let mut open = match session.take() {
                Some(open) => open,
                None => field.unix().session()?,
            };
            let begun = open.begin(0, text);
            let answer = begun.and_then(|id| open.end_of(id));
            if answer.is_ok() {
                session = Some(open);
            }
            answer
        };
        match answer {
            Ok(answer) if wanted.is_none_or(|kind| answer.kind == kind) => answers += 1,
            _ => others += 1,
        }
        Ok(())
    });
    field.tell("answers", f64::from(answers));
    field.at_most("other answers", f64::from(others), 0.0);
}

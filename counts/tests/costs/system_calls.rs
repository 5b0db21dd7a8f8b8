//! System calls of a call, counted by strace: those of the second thousands of calls.

use crate::check;
use crate::probe::{Server, Tool};

const TABLE: &[(&str, f64)] = &[
    ("blocking session, client, reads and writes", 2.00),
    ("blocking session, client, all", 2.00),
    ("blocking session, server, reads and writes", 2.00),
    ("blocking session, server, all", 2.03),
    ("tokio session, client, reads and writes", 2.00),
    ("tokio session, client, all", 4.00),
    ("tokio session, server, reads and writes", 2.00),
    ("tokio session, server, all", 3.00),
    ("tokio session, 64 in flight, both sides", 0.12),
    ("blocking classic, client, reads and writes", 2.00),
    ("blocking classic, client, all", 7.00),
    ("blocking classic, server, reads and writes", 2.00),
    ("blocking classic, server, all", 6.05),
    ("tokio classic, client, reads and writes", 2.00),
    ("tokio classic, client, all", 9.00),
    ("tokio classic, server, reads and writes", 2.00),
    ("tokio classic, server, all", 7.01),
];
/// What a figure may be worse than the table before it is a failure.
const TOLERANCE: f64 = 0.08;

#[test]
#[cfg_attr(debug_assertions, ignore = "counts are those of an optimised program")]
fn system_calls_of_a_call() {
    check(TABLE, TOLERANCE, measure);
}

fn measure() -> Vec<(String, f64)> {
    let mut measured = Vec::new();
    for (face, style, in_flight) in [
        ("blocking", "session", 1),
        ("tokio", "session", 1),
        ("tokio", "session", 64),
        ("blocking", "classic", 1),
        ("tokio", "classic", 1),
    ] {
        let calls = if in_flight == 1 { 1_000 } else { 64 * 400 };
        let count = |calls| {
            let server = Server::start(Tool::Strace, face);
            let (_, client) = server.call(Tool::Strace, face, style, calls, in_flight);
            (client, server.end())
        };
        let ((client, server), (more_client, more_server)) = (count(calls), count(2 * calls));
        let (client, server) = (client.each(more_client, calls), server.each(more_server, calls));
        if in_flight > 1 {
            let name = format!("{face} {style}, {in_flight} in flight, both sides");
            measured.push((name, client.all + server.all));
            continue;
        }
        for (side, counted) in [("client", client), ("server", server)] {
            measured.push((format!("{face} {style}, {side}, reads and writes"), counted.transfers));
            measured.push((format!("{face} {style}, {side}, all"), counted.all));
        }
    }
    measured
}

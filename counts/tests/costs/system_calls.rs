//! System calls of a call, counted by strace: those of the second thousands of calls.

use crate::probe::{Server, Tool, run};
use crate::{burst, check};

const TABLE: &[(&str, f64)] = &[
    ("blocking session, client, reads and writes", 2.00),
    ("blocking session, client, all", 2.00),
    ("blocking session, server, reads and writes", 2.00),
    ("blocking session, server, all", 2.03),
    ("tokio session, client, reads and writes", 2.00),
    ("tokio session, client, all", 4.00),
    ("tokio session, server, reads and writes", 2.00),
    ("tokio session, server, all", 3.00),
    ("blocking classic, client, reads and writes", 2.00),
    ("blocking classic, client, all", 7.00),
    ("blocking classic, server, reads and writes", 2.00),
    ("blocking classic, server, all", 6.05),
    ("tokio classic, client, reads and writes", 2.00),
    ("tokio classic, client, all", 9.00),
    ("tokio classic, server, reads and writes", 2.00),
    ("tokio classic, server, all", 5.02),
    ("tokio session, 64 in flight, both sides", 0.109),
];
/// A figure that is worse than the table by more than this is a failure.
const TOLERANCE: f64 = 0.08;

#[test]
#[cfg_attr(debug_assertions, ignore = "counts are those of an optimised program")]
fn system_calls_of_a_call() {
    check(TABLE, TOLERANCE, measure);
}

fn measure() -> Vec<(String, f64)> {
    let mut measured = Vec::new();
    for (face, style) in
        [("blocking", "session"), ("tokio", "session"), ("blocking", "classic"), ("tokio", "classic")]
    {
        let count = |calls| {
            let server = Server::start(Tool::Strace, face);
            let (_, client) = server.call(Tool::Strace, face, style, calls, 1);
            (client, server.end())
        };
        let ((client, server), (more_client, more_server)) = (count(CALLS), count(2 * CALLS));
        let (client, mut server) = (client.each(more_client, CALLS), server.each(more_server, CALLS));
        if (face, style) == ("tokio", "classic") {
            server = burst::of_one_call(Tool::Strace);
        }
        for (side, counted) in [("client", client), ("server", server)] {
            measured.push((format!("{face} {style}, {side}, reads and writes"), counted.transfers));
            measured.push((format!("{face} {style}, {side}, all"), counted.all));
        }
    }
    measured.push(("tokio session, 64 in flight, both sides".to_string(), sixty_four_in_flight()));
    measured
}

/// Measures with both sides in one thread, whose order of things is its own.
fn sixty_four_in_flight() -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let count = |calls: usize| {
        let endpoint = format!("unix:{}", dir.path().join("socket").display());
        run(Tool::Strace, dir.path(), &["both", &endpoint, &calls.to_string(), "64"]).1
    };
    count(MANY).each(count(2 * MANY), MANY).all
}

const CALLS: usize = 1_000;
const MANY: usize = 64 * 400;

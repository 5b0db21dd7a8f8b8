//! Instructions of a call, counted by callgrind: those of the second thousand calls.
//!
//! Work by the clock, a look at the sessions every few milliseconds, is in them too. There is more of it than without
//! callgrind, in which everything takes longer. That is a few per cent and the reason for the tolerance.

use crate::probe::{Counted, Server, Tool, run};
use crate::{burst, check};

const TABLE: &[(&str, f64)] = &[
    ("core, both sides", 7970.0),
    ("blocking session, client", 7460.0),
    ("blocking session, server", 7880.0),
    ("tokio session, client", 11_460.0),
    ("tokio session, server", 10_930.0),
    ("blocking classic, client", 5590.0),
    ("blocking classic, server", 7010.0),
    ("tokio classic, client", 12_030.0),
    ("tokio classic, server", 11_300.0),
];
/// A figure that is worse than the table by more than this is a failure.
const TOLERANCE: f64 = 0.06;

#[test]
#[cfg_attr(debug_assertions, ignore = "counts are those of an optimised program")]
fn instructions_of_a_call() {
    check(TABLE, TOLERANCE, measure);
}

fn measure() -> Vec<(String, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let core = |calls: usize| run(Tool::Callgrind, dir.path(), &["core", &calls.to_string()]).1;
    let mut measured = vec![("core, both sides".to_string(), core(CALLS).each(core(2 * CALLS), CALLS).all)];
    for (face, style) in
        [("blocking", "session"), ("tokio", "session"), ("blocking", "classic"), ("tokio", "classic")]
    {
        let count = |calls| client_and_server(face, style, calls);
        let ((client, server), (more_client, more_server)) = (count(CALLS), count(2 * CALLS));
        measured.push((format!("{face} {style}, client"), client.each(more_client, CALLS).all));
        measured.push((format!("{face} {style}, server"), server.each(more_server, CALLS).all));
    }
    let tokio_classic = measured.last_mut().unwrap();
    tokio_classic.1 = burst::of_one_call(Tool::Callgrind).all;
    measured
}

/// Returns the cost of both sides of `calls`. They are counted one after the other: the other side runs at full speed.
fn client_and_server(face: &str, style: &str, calls: usize) -> (Counted, Counted) {
    let server = Server::start(Tool::Nothing, face);
    let (_, client) = server.call(Tool::Callgrind, face, style, calls, 1);
    drop(server);
    let cost = |_| {
        let server = Server::start(Tool::Callgrind, face);
        // The first handlers are slow, as callgrind translates their code, and a session with a slow handler gives each
        // call a thread. So another session has them.
        server.call(Tool::Nothing, face, style, FIRST_CALLS, 1);
        server.call(Tool::Nothing, face, style, calls, 1);
        server.end()
    };
    let least = (0..SERVERS).map(cost).min_by(|a, b| a.all.total_cmp(&b.all));
    (client, least.unwrap())
}

const CALLS: usize = 1_000;
const FIRST_CALLS: usize = 100;
/// How many servers are counted, of which the least cost is taken: a handler that lost its core looks slow too.
const SERVERS: usize = 3;

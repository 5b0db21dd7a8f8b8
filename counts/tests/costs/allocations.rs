//! Allocations of a call, counted by the allocator of each side's process.

use crate::memory::heap;
use crate::probe::{Counted, Server, Tool, run};
use crate::{burst, check};

const TABLE: &[(&str, f64)] = &[
    ("core, both sides", 4.00),
    ("blocking session, client", 3.00),
    ("blocking session, server", 4.05),
    ("tokio session, client", 6.00),
    ("tokio session, server", 7.01),
    ("blocking classic, client", 5.00),
    ("blocking classic, server", 6.54),
    ("tokio classic, client", 11.00),
    ("tokio classic, server", 9.00),
];
/// A figure that is worse than the table by more than this is a failure.
const TOLERANCE: f64 = 0.04;

#[test]
#[cfg_attr(debug_assertions, ignore = "counts are those of an optimised program")]
fn allocations_of_a_call() {
    check(TABLE, TOLERANCE, measure);
}

fn measure() -> Vec<(String, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let mut measured =
        vec![("core, both sides".to_string(), run(Tool::Nothing, dir.path(), &["core", "1000"]).0)];
    for (face, style) in
        [("blocking", "session"), ("tokio", "session"), ("blocking", "classic"), ("tokio", "classic")]
    {
        let server = Server::start(Tool::Nothing, face);
        // Memory that is taken once, with the first calls.
        server.call(Tool::Nothing, face, style, 200, 1);
        let before = heap(&server).allocations;
        let (client, _) = server.call(Tool::Nothing, face, style, CALLS - WARM, 1);
        let serving = (heap(&server).allocations - before) / CALLS as f64;
        measured.push((format!("{face} {style}, client"), client));
        measured.push((format!("{face} {style}, server"), serving));
    }
    let server = Server::start(Tool::Nothing, "tokio");
    burst::bursts(&server, 200);
    let count = |calls| {
        let before = heap(&server).allocations;
        burst::bursts(&server, calls);
        Counted { all: heap(&server).allocations - before, transfers: 0.0 }
    };
    let tokio_classic = measured.last_mut().unwrap();
    tokio_classic.1 = burst::each(count).all;
    measured
}

const CALLS: usize = 4_000;
/// Calls that the probe makes before those that it is asked for.
const WARM: usize = 100;

//! The cost of a call, in figures that do not depend on the clock or on what else the machine does. Each has a table of
//! what was reached last; a test fails when a figure is more than a little worse than that.
//!
//! To measure again, and to see all figures in the form of the tables:
//!
//! ```text
//! cargo test --release --package procbridge-counts -- --nocapture --test-threads 1 | grep figure
//! ```
//!
//! Instructions depend on the compiler a little: the tables are for the one that CI has.
//!
//! When a figure is better for good, write it into its table: else the next change may lose it unseen.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod allocations;
mod burst;
mod instructions;
mod memory;
mod probe;
mod system_calls;

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Compares measured figures with a table. A figure fails that is worse by more than `tolerance` (0.05 is 5 %), twice in a
/// row. Most figures contain a look at the clock now and then.
fn check(table: &[(&str, f64)], tolerance: f64, measure: impl Fn() -> Vec<(String, f64)>) {
    let mut best: Vec<(String, f64)> = watched(&measure);
    for _ in 1..ATTEMPTS {
        if worse(table, tolerance, &best).is_empty() {
            break;
        }
        for (best, again) in best.iter_mut().zip(watched(&measure)) {
            assert_eq!(best.0, again.0);
            best.1 = best.1.min(again.1);
        }
    }
    for (name, figure) in &best {
        let _ = writeln!(std::io::stdout(), "figure: (\"{name}\", {figure:.3}),");
    }
    let worse = worse(table, tolerance, &best);
    assert!(worse.is_empty(), "worse than the table says:\n{}", worse.join("\n"));
    assert_eq!(table.len(), best.len(), "a figure of the table was not measured");
}

/// Measures once, and ends the program if that does not end.
fn watched<T>(measure: impl Fn() -> T) -> T {
    let (_ends_in_time, ended) = channel::<()>();
    thread::spawn(move || {
        // Nothing comes; it is closed when this measurement has ended.
        if ended.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            let _ = writeln!(std::io::stderr(), "a probe does not end");
            std::process::exit(1);
        }
    });
    measure()
}

fn worse(table: &[(&str, f64)], tolerance: f64, measured: &[(String, f64)]) -> Vec<String> {
    let reached = |name: &str| table.iter().find(|(known, _)| *known == name).map(|(_, reached)| *reached);
    let is_fine =
        |name: &str, figure: f64| reached(name).is_some_and(|reached| figure <= reached * (1.0 + tolerance));
    let worse = measured.iter().filter(|(name, figure)| !is_fine(name, *figure));
    worse.map(|(name, figure)| format!("{name}: {figure:.3}, and in the table {:?}", reached(name))).collect()
}

const ATTEMPTS: usize = 8;
const WATCHDOG: Duration = Duration::from_secs(300);

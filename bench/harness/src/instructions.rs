//! Instructions of a call, counted by callgrind with the program of `counts/`. They hardly depend on the machine.
//!
//! Two runs with different numbers of calls are counted, and the difference is divided by the difference. Each side is
//! counted while the other one runs at full speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::case::{Place, Transport};
use crate::child::{Child, Cores};
use crate::results::{CaseResult, GroupResult, Sample};

/// The rows.
pub(crate) const NAMES: [&str; 3] = ["client", "server", "core"];

/// The names of the rows in tables.
const LABELS: [&str; 3] = ["blocking session, client", "blocking session, server", "core alone, both sides"];

/// Few: only what happens by the clock varies.
const ROUNDS: usize = 3;

/// Calls of the shorter run and of the longer one.
const CALLS: [u64; 2] = [1_000, 2_000];

/// How long a probe may take to answer, or to end and write what was counted.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counts all rows.
pub(crate) fn measure(place: &Place, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("instructions");
    let mut group = GroupResult::new("instructions", "Instructions of a call");
    for (name, label) in NAMES.into_iter().zip(LABELS) {
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            match count(name, place) {
                Ok(sample) => rounds.push(Some(sample)),
                Err(error) => {
                    faults.push(format!("instructions/{name}, round {}: {error}", round + 1));
                    rounds.push(None);
                }
            }
        }
        group.cases.push(CaseResult { name: name.to_string(), label: label.to_string(), rounds });
    }
    group
}

fn count(name: &str, place: &Place) -> Result<Sample, String> {
    let [few, many] = CALLS;
    let run = |calls| match name {
        "core" => core(place, calls),
        _ => side(name, place, calls),
    };
    let each = run(many)?.saturating_sub(run(few)?) as f64 / (many - few) as f64;
    Ok(Sample::from([("instructions".to_string(), each)]))
}

/// Counts the whole program that has both sides of the core.
fn core(place: &Place, calls: u64) -> Result<u64, String> {
    let report = place.directory.join("core.callgrind");
    let mut probe = start(place, Some(&report), &["core", &calls.to_string()])?;
    probe.line(PATIENCE)?;
    probe.end_within(PATIENCE);
    total(&report)
}

/// Counts the client's, or the server's, whole program.
fn side(name: &str, place: &Place, calls: u64) -> Result<u64, String> {
    let endpoint = place.endpoint(Transport::Unix)?;
    let report = place.directory.join(format!("{name}.callgrind"));
    let counted = |side: &str| (side == name).then_some(report.as_path());
    let mut server = start(place, counted("server"), &["serve", "blocking", &endpoint])?;
    server.wait_ready()?;
    let calling = ["call", "blocking", "session", &endpoint, &calls.to_string(), "1"];
    let mut client = start(place, counted("client"), &calling)?;
    client.line(PATIENCE)?;
    client.end_within(PATIENCE);
    server.end_within(PATIENCE);
    total(&report)
}

/// Starts the probe on the first core; callgrind writes to `report`, if there is one.
fn start(place: &Place, report: Option<&Path>, arguments: &[&str]) -> Result<Child, String> {
    let probe: PathBuf = place.built.join("probe");
    let mut command = match report {
        None => Command::new(probe),
        Some(report) => {
            // The report of an earlier run would be taken for that of this one.
            let _ = fs::remove_file(report);
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--quiet"]);
            command.arg(format!("--callgrind-out-file={}", report.display())).arg(probe);
            command
        }
    };
    command.args(arguments);
    Child::start(command, Cores::Only(0), &place.directory)
}

/// Reads the sum that callgrind wrote.
fn total(report: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(report).map_err(|error| format!("{}: {error}", report.display()))?;
    sum(&text).ok_or_else(|| format!("{}: no totals", report.display()))
}

fn sum(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_report() {
        assert_eq!(sum("events: Ir\nfn=(1) main\n12 34\ntotals: 5678\n"), Some(5678));
        assert_eq!(sum("events: Ir\n"), None);
    }
}

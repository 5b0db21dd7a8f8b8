//! Lines for people, and rows for `docs/figures.md`.

use std::time::Duration;

use crate::scenario::Scenario;
use crate::server::Target;
use crate::statistics::milliseconds;
use crate::verdict::{Breach, Measured, round};

/// Prints a line.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    // A reader that has gone is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line where errors go.
pub(crate) fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "abuse: {line}");
}

/// The figures of a run in one line.
pub(crate) fn figures(measured: &Measured) -> String {
    let (class, kept) = measured.goodput();
    let (slowest, before, during) = measured.p99();
    let [cores_before, cores, attackers] = measured.cores;
    let beside = if measured.is_beside_load { " beside load" } else { "" };
    let mut line = format!(
        "goodput {kept:.2} ({class}){beside}, p99 {} -> {} ({slowest}), {:+.0} MiB, after {:+.0} MiB, {} descriptors, \
         {} threads, cores {cores_before:.2} -> {cores:.2} (attackers {attackers:.2}), recovery {}, rest {}",
        milliseconds(before),
        milliseconds(during),
        measured.memory(),
        measured.memory_after(),
        measured.descriptors,
        measured.threads,
        milliseconds(measured.recovery),
        measured.rest.map_or_else(|| "never".to_string(), milliseconds),
    );
    for fact in &measured.facts {
        line.push_str(&format!(", {} {}", fact.name, round(fact.value)));
    }
    line
}

/// The line of a run: its figures, and the bounds that do not hold.
pub(crate) fn line(scenario: &Scenario, target: Target, measured: &Measured, breaches: &[Breach]) -> String {
    let figures = figures(measured);
    let verdict = if breaches.is_empty() {
        "ok".to_string()
    } else {
        let texts: Vec<_> = breaches.iter().map(|breach| breach.text.as_str()).collect();
        let complaint = measured.complaint.as_ref().map(|told| format!(" [{told}]")).unwrap_or_default();
        format!("FAILED {}{complaint}", texts.join("; "))
    };
    format!("{} {target}: {figures}: {verdict}", scenario.name)
}

/// The head of the table.
pub(crate) const TABLE: &str = "\
| scenario | server | goodput of the class that lost most | p99 before, during | MiB more, afterwards | descriptors, threads | server's processors before, during | recovery, at rest | also | |
|---|---|---|---|---|---|---|---|---|---|";

/// A row of the table.
pub(crate) fn row(scenario: &Scenario, target: Target, measured: &Measured, breaches: &[Breach]) -> String {
    let (class, kept) = measured.goodput();
    let (slowest, before, during) = measured.p99();
    let [cores_before, cores, _] = measured.cores;
    let beside = if measured.is_beside_load { " *" } else { "" };
    let facts: Vec<_> =
        measured.facts.iter().map(|fact| format!("{} {}", fact.name, round(fact.value))).collect();
    format!(
        "| `{}` ({}) | {target} | {class} {kept:.2}{beside} | {}, {} ({slowest}) | {:.0}, {:.0} | {}, {} | \
         {cores_before:.2}, {cores:.2} | {}, {} | {} | {} |",
        scenario.name,
        scenario.faults,
        milliseconds(before),
        milliseconds(during),
        measured.memory(),
        measured.memory_after(),
        measured.descriptors,
        measured.threads,
        milliseconds(measured.recovery),
        measured.rest.map_or_else(|| "never".to_string(), seconds),
        facts.join("; "),
        if breaches.is_empty() { "ok" } else { "**FAILED**" },
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

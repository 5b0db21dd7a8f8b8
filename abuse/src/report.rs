//! Lines for people, and rows for `docs/figures.md`.

use std::time::Duration;

use crate::honest::Class;
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

/// The figures of a run, as they are written.
struct Figures {
    goodput: String,
    p99_before: String,
    p99_during: String,
    slowest: Class,
    memory: String,
    memory_after: String,
    descriptors: usize,
    threads: usize,
    cores: [String; 3],
    recovery: String,
    rest: String,
    facts: String,
}

impl Figures {
    fn of(measured: &Measured) -> Self {
        let (class, kept) = measured.goodput();
        let (slowest, before, during) = measured.p99();
        let facts: Vec<_> =
            measured.facts.iter().map(|fact| format!("{} {}", fact.name, round(fact.value))).collect();
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        Self {
            goodput: format!("{class} {kept:.2}{}", if measured.is_beside_load { " *" } else { "" }),
            p99_before: milliseconds(before),
            p99_during: milliseconds(during),
            slowest,
            memory: format!("{:.0}", measured.memory()),
            memory_after: format!("{:.0}", measured.memory_after()),
            descriptors: measured.descriptors,
            threads: measured.threads,
            cores: measured.cores.map(|cores| format!("{cores:.2}")),
            recovery: milliseconds(measured.recovery),
            rest: measured.rest.map_or_else(|| "never".to_string(), seconds),
            facts: facts.join("; "),
        }
    }
}

/// Returns the line of a run: its figures, and the bounds that do not hold.
pub(crate) fn line(scenario: &Scenario, target: Target, measured: &Measured, breaches: &[Breach]) -> String {
    let Figures {
        goodput,
        p99_before,
        p99_during,
        slowest,
        memory,
        memory_after,
        descriptors,
        threads,
        cores: [cores_before, cores, attackers],
        recovery,
        rest,
        facts,
    } = Figures::of(measured);
    let verdict = if breaches.is_empty() {
        "ok".to_string()
    } else {
        let texts: Vec<_> = breaches.iter().map(|breach| breach.text.as_str()).collect();
        let complaint = measured.complaint.as_ref().map(|told| format!(" [{told}]")).unwrap_or_default();
        format!("FAILED {}{complaint}", texts.join("; "))
    };
    format!(
        "{} {target}: goodput {goodput}, p99 {p99_before} -> {p99_during} ({slowest}), {memory} MiB, after {memory_after} \
         MiB, {descriptors} descriptors, {threads} threads, cores {cores_before} -> {cores} (attackers {attackers}), \
         recovery {recovery}, rest {rest}, {facts}: {verdict}",
        scenario.name,
    )
}

/// The head of the table.
pub(crate) const TABLE: &str = "\
| scenario | server | goodput of the class that lost most | p99 before, during | MiB more, afterwards | descriptors, threads | server's processors before, during | recovery, at rest | also | |
|---|---|---|---|---|---|---|---|---|---|";

/// Returns a row of the table.
pub(crate) fn row(scenario: &Scenario, target: Target, measured: &Measured, breaches: &[Breach]) -> String {
    let Figures {
        goodput,
        p99_before,
        p99_during,
        slowest,
        memory,
        memory_after,
        descriptors,
        threads,
        cores: [cores_before, cores, _],
        recovery,
        rest,
        facts,
    } = Figures::of(measured);
    let verdict = if breaches.is_empty() { "ok" } else { "**FAILED**" };
    format!(
        "| `{}` ({}) | {target} | {goodput} | {p99_before}, {p99_during} ({slowest}) | {memory}, {memory_after} | \
         {descriptors}, {threads} | {cores_before}, {cores} | {recovery}, {rest} | {facts} | {verdict} |",
        scenario.name, scenario.faults,
    )
}

//! Results as tables: for the terminal, and as the page of the documentation.

use crate::check::{self, Verdict};
use crate::format::{bound, number};
use crate::goals::{self, Figure};
use crate::plots;
use crate::results::{CaseResult, GroupResult, Results};
use crate::statistics::Spread;
use crate::systems;

/// For whom a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Terminal,
    /// With the command that repeats each row.
    Page,
}

/// The head of the column that only groups with such a limit have.
const OF_SAME_WORK: &str = "p50 of the same work";

/// A column: its head, and what stands in it for a case of a group.
type Column = (&'static str, fn(&GroupResult, &CaseResult) -> String);

/// Returns the tables of all groups.
pub(crate) fn tables(results: &Results, detail: Detail) -> String {
    let tables = results.groups.iter().map(|group| match detail {
        Detail::Terminal => format!("## {} ({})\n\n{}", group.title, group.name, table(group, detail)),
        Detail::Page => format!("## {}\n\n{}{}", group.title, remark(group), table(group, detail)),
    });
    tables.collect::<Vec<_>>().join("\n")
}

fn table(group: &GroupResult, detail: Detail) -> String {
    let mut columns: Vec<Column> = columns(&group.name);
    if same_work(group).is_none() {
        columns.retain(|(head, _)| *head != OF_SAME_WORK);
    }
    if detail == Detail::Page {
        columns.push(("repeat it: `scripts/bench`", |group, case| repeat(&group.name, case)));
    }
    let mut rows = vec![
        [vec!["system".to_string()], columns.iter().map(|(head, _)| (*head).to_string()).collect()].concat(),
    ];
    for case in &group.cases {
        let mut row = vec![case.label.clone()];
        row.extend(columns.iter().map(|(_, text)| text(group, case)));
        rows.push(row);
    }
    aligned(&rows)
}

/// Returns a table of Markdown that can be read as it stands.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    // Words stand on the left of a column, figures on its right.
    let words = |cell: &String| cell.starts_with(|first: char| first.is_alphabetic() || first == '`');
    let left: Vec<bool> =
        (0..columns).map(|at| at == 0 || rows.iter().skip(1).any(|row| words(&row[at]))).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for ((cell, width), left) in row.iter().zip(&widths).zip(&left) {
            text += &if *left { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
        }
        text += "|\n";
        if at == 0 {
            for (width, left) in widths.iter().zip(&left) {
                let line = "-".repeat(width + 1);
                text += &if *left { format!("|{line}-") } else { format!("|{line}:") };
            }
            text += "|\n";
        }
    }
    text
}

fn columns(group: &str) -> Vec<Column> {
    match group {
        "system-calls" => vec![
            ("client", |_, case| median(case, "client_syscalls")),
            ("server", |_, case| median(case, "server_syscalls")),
            ("both", |_, case| median(case, "syscalls")),
        ],
        "instructions" => vec![("instructions of a call", |_, case| spread(case.spread("instructions")))],
        "memory" => vec![
            ("server, bytes each", |_, case| median(case, "server_bytes_each")),
            ("client, bytes each", |_, case| median(case, "client_bytes_each")),
            ("server in all, MiB", |_, case| mebibytes(case, "server_rss_kib")),
        ],
        "start" => vec![
            ("to the first answer, us", |_, case| spread(case.spread("start_us"))),
            ("of the first row", |group, case| to_first(group, case, "start_us")),
        ],
        "size" => vec![
            ("KiB", |_, case| case.median("bytes").map_or_else(dash, |bytes| number(bytes / 1024.0))),
            ("of the first row", |group, case| to_first(group, case, "bytes")),
        ],
        "split" => vec![
            ("ours, ns", |_, case| median(case, "ours_ns")),
            ("serde_json RawValue, ns", |_, case| median(case, "raw_value_ns")),
            ("serde_json Value, ns", |_, case| median(case, "value_ns")),
            ("ours of RawValue", |_, case| {
                spread(Spread::of_ratios(&case.figures("ours_ns"), &case.figures("raw_value_ns")))
            }),
        ],
        _ => vec![
            ("p50, us", |_, case| median(case, "p50_us")),
            ("p99, us", |_, case| median(case, "p99_us")),
            ("calls per second", |_, case| median(case, "per_second")),
            ("p50 of the first row", |group, case| to_first(group, case, "p50_us")),
            ("calls per second of the first row", |group, case| to_first(group, case, "per_second")),
            (OF_SAME_WORK, |group, case| to_same_work(group, case, "p50_us")),
            ("CPU of both per call, us", |_, case| median(case, "cpu_us")),
            ("server's peak, MiB", |_, case| mebibytes(case, "server_peak_kib")),
        ],
    }
}

fn median(case: &CaseResult, metric: &str) -> String {
    case.median(metric).map_or_else(dash, number)
}

fn mebibytes(case: &CaseResult, metric: &str) -> String {
    case.median(metric).map_or_else(dash, |kib| number(kib / 1024.0))
}

/// Returns the row of the limit with the same work, if the group has one.
fn same_work(group: &GroupResult) -> Option<&CaseResult> {
    group.cases.iter().find(|case| case.name.starts_with("same-work"))
}

/// Returns the ratio to the limit with the same work, round by round.
fn to_same_work(group: &GroupResult, case: &CaseResult, metric: &str) -> String {
    let limit = same_work(group).map(|limit| limit.figures(metric)).unwrap_or_default();
    spread(Spread::of_ratios(&case.figures(metric), &limit))
}

/// Returns the ratio to the first row, round by round.
fn to_first(group: &GroupResult, case: &CaseResult, metric: &str) -> String {
    let first = group.cases.first().map(|first| first.figures(metric)).unwrap_or_default();
    spread(Spread::of_ratios(&case.figures(metric), &first))
}

fn spread(spread: Option<Spread>) -> String {
    match spread {
        None => dash(),
        Some(spread) if spread.lower == spread.upper => number(spread.median),
        Some(spread) => {
            format!("{} ({}-{})", number(spread.median), number(spread.lower), number(spread.upper))
        }
    }
}

fn dash() -> String {
    "-".to_string()
}

/// Returns the arguments that repeat a row.
fn repeat(group: &str, case: &CaseResult) -> String {
    let full = crate::plan::groups(true);
    let planned = full.iter().find(|planned| planned.name == group);
    let row = planned.and_then(|planned| planned.cases.iter().find(|row| row.name == case.name));
    let neighbours = match row {
        Some(row) => !(row.server.is_quick() && row.client.is_quick() && in_quick(group)),
        // Rows that are measured once: of ours and the limits unless they have a neighbour's name.
        None => {
            let name = case.name.trim_end_matches("-64");
            systems::named(name).is_some_and(|system| !system.is_quick())
        }
    };
    let quick = if neighbours { "" } else { "--quick " };
    let name = if case.name.contains(' ') {
        format!("\"{group}/{}\"", case.name)
    } else {
        format!("{group}/{}", case.name)
    };
    format!("`{quick}--only {name}`")
}

/// Whether the quick run has all that a goal needs.
fn is_quick(goal: &str) -> bool {
    let quick = crate::command::rows(false);
    let has = |figure: Figure| quick.iter().any(|(group, case)| figure.is(group, case));
    let mut conditions = goals::all().into_iter().filter(|condition| condition.goal == goal);
    conditions.all(|condition| has(condition.top) && condition.bottom.is_none_or(has))
}

fn in_quick(group: &str) -> bool {
    crate::plan::groups(false).iter().any(|planned| planned.name == group)
}

/// Returns what a reader of a table must know.
fn remark(group: &GroupResult) -> &'static str {
    match group.name.as_str() {
        "bulk" => {
            "The payload is a JSON string. ProcBridge gives and takes it as JSON text, which it checks, or, `as Value`, as a \
             tree of values. The neighbours carry a serde_json Value too, or, where it says `bytes` or `text`, something \
             that neither they nor the echo look at.\n\n"
        }
        "latency-unix" | "latency-tcp" | "in-flight-64-one" | "in-flight-64-free" => {
            "All carry a serde_json Value at both ends, but where it says `text`, which is JSON text that is checked and not \
             made into a tree, or `bytes`, which nobody looks at. tarpc bincode carries a struct.\n\n"
        }
        "peers" => "`A calls B`: the client of A and the server of B.\n\n",
        "split" => {
            "From the bytes of a body to method and payload: the best of five looks each, in seven processes.\n\n"
        }
        "system-calls" => {
            "Counted by strace over 1,000 calls for each in flight, 150 for neighbours with 64 in flight.\n\n"
        }
        "instructions" => {
            "Counted by callgrind over 1,000 calls with JSON text in and out, by the program of `counts/`: each side of a \
             blocking session alone, and both sides of the core in memory.\n\n"
        }
        _ => "",
    }
}

/// Returns the page of the documentation.
pub(crate) fn page(results: &Results, verdicts: &[Verdict]) -> String {
    let machine = &results.machine;
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = format!(
        "# Results\n\n<!-- made by scripts/bench: a change by hand is lost -->\n\n\
         How to read this, how it was measured and what it does not show: [README.md](README.md).\n\n\
         Measured {} at commit {} on {} cores of {}, {:.0} GiB, {}, {}.\n\n",
        machine.date,
        machine.commit,
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        machine.rustc,
    );
    if versions.is_empty() {
        text += "A quick run: the raw limits and ProcBridge, without the neighbours.\n\n";
    } else {
        text += &format!("Beside us: {}.\n\n", versions.join(", "));
    }
    text += "## Goals\n\n";
    text += &format!("{}\n\n", check::summary(verdicts));
    let mut rows = vec![
        ["goal", "what", "reached", "of the bare socket", "goal is", "", "repeat it: `scripts/bench`"]
            .map(str::to_string)
            .to_vec(),
    ];
    for verdict in verdicts {
        let condition = &verdict.condition;
        rows.push(vec![
            condition.goal.to_string(),
            condition.says.to_string(),
            verdict.figure(),
            verdict.figure_of_bare(),
            bound(condition.bound),
            verdict.text(),
            format!("`{}--only {}`", if is_quick(condition.goal) { "--quick " } else { "" }, condition.goal),
        ]);
    }
    text += &aligned(&rows);
    let limits: Vec<_> = verdicts.iter().filter_map(|verdict| Some((verdict, verdict.limit()?))).collect();
    if !limits.is_empty() {
        text += "\nWhat limits the known limits; more of it in [README.md](README.md#goals-not-met-and-what-limits-them):\n\n";
        for (verdict, limit) in limits {
            text +=
                &format!("- {}, {}: {}\n", verdict.condition.goal, verdict.condition.says, limit.limited_by);
        }
    }
    if !results.faults.is_empty() {
        text += "\n## What could not be measured\n\n";
        for fault in &results.faults {
            text += &format!("- {fault}\n");
        }
    }
    text += "\n## Drawings\n\n";
    let drawings = plots::all(results);
    for (name, title) in plots::TITLES {
        if drawings.iter().any(|(drawn, _)| *drawn == name) {
            text += &format!("![{title}]({name})\n\n");
        }
    }
    text + &tables(results, Detail::Page)
}

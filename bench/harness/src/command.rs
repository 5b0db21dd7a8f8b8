//! The steps of `scripts/bench`: measure or take up an earlier result, show it, write it, check it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::case::{Case, Place, seconds};
use crate::machine::Machine;
use crate::options::Options;
use crate::results::Results;
use crate::{check, counts, instructions, memory, page, plan, plots, split, start, systems};

pub(crate) fn act(options: &Options) -> ExitCode {
    let rows = rows(!options.quick);
    if let Some(unknown) = options.unknown(&rows) {
        eprintln!("bench: {unknown:?} is no group, row or goal that is measured here; --list shows them");
        return ExitCode::from(2);
    }
    if options.list {
        for (group, case) in rows {
            println!("{group}/{case}");
        }
        return ExitCode::SUCCESS;
    }
    let results = match &options.render {
        Some(file) => read(file),
        None => measure(options),
    };
    match results.and_then(|results| show(options, &results)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Results, String> {
    let begun = Instant::now();
    let place = Place::new(options.built.clone())?;
    let full = !options.quick;
    let mut results = Results { machine: Machine::here(), groups: Vec::new(), faults: Vec::new() };
    for mut group in plan::groups(full) {
        let first = group.cases.first().map(|case| case.name.clone()).unwrap_or_default();
        group.cases.retain(|case| options.wants(group.name, &case.name, case.name == first));
        if group.cases.is_empty() || !is_named(options, group.name, &group.cases) {
            continue;
        }
        let rounds = options.rounds.unwrap_or(group.rounds);
        results.groups.push(group.measure(&place, rounds, &mut results.faults));
    }
    let faults = &mut results.faults;
    let wanted = |group: &str, mut cases: Vec<Case>| {
        cases.retain(|case| options.wants(group, &case.name, false));
        cases
    };
    let counted = wanted("system-calls", plan::counted(full));
    if !counted.is_empty() {
        results.groups.push(counts::measure(&counted, &place, faults));
    }
    if wants_any(options, "instructions", &instructions::NAMES) {
        results.groups.push(instructions::measure(&place, faults));
    }
    let idle = wanted("memory", plan::idle(full));
    if !idle.is_empty() {
        results.groups.push(memory::measure(&idle, &place, faults));
    }
    if wants_any(options, "start", &start::NAMES) {
        results.groups.push(start::starts(&place, full, faults));
    }
    if wants_any(options, "size", &start::NAMES) {
        results.groups.push(start::sizes(&place, faults));
    }
    if wants_any(options, "split", &split::PAYLOADS) {
        results.groups.push(split::measure(&place, faults));
    }
    // No reader needs to know where the sockets were.
    let directory = format!("{}/", place.directory.display());
    results.faults.iter_mut().for_each(|fault| *fault = fault.replace(&directory, ""));
    if full {
        results.machine.versions = systems::versions();
    }
    eprintln!("measured in {}", seconds(begun));
    Ok(results)
}

/// Whether a case is asked for. A case that is only there to be compared with does not call for its group.
fn is_named(options: &Options, group: &str, cases: &[Case]) -> bool {
    cases.iter().any(|case| options.wants(group, &case.name, false))
}

fn wants_any(options: &Options, group: &str, names: &[&str]) -> bool {
    names.iter().any(|name| options.wants(group, name, false))
}

/// Returns all rows that there are.
pub(crate) fn rows(full: bool) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut add = |group: &str, case: &str| rows.push((group.to_string(), case.to_string()));
    for group in plan::groups(full) {
        group.cases.iter().for_each(|case| add(group.name, &case.name));
    }
    plan::counted(full).iter().for_each(|case| add("system-calls", &case.name));
    instructions::NAMES.iter().for_each(|name| add("instructions", name));
    plan::idle(full).iter().for_each(|case| add("memory", &case.name));
    start::NAMES.iter().for_each(|name| add("start", name));
    start::NAMES.iter().for_each(|name| add("size", name));
    split::PAYLOADS.iter().for_each(|name| add("split", name));
    rows
}

fn show(options: &Options, results: &Results) -> Result<ExitCode, String> {
    println!("{}", page::tables(results, page::Detail::Terminal));
    let verdicts = check::verdicts(results);
    let (goals, missed) = check::report(&verdicts, options.check_all);
    println!("{goals}");
    for fault in &results.faults {
        println!("failed: {fault}");
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
        write(file, &(text + "\n"))?;
    }
    if let Some(directory) = &options.write {
        write(&directory.join("results.md"), &page::page(results, &verdicts))?;
        for (name, drawing) in plots::all(results) {
            write(&directory.join(name), &drawing)?;
        }
    }
    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    if missed.is_empty() {
        let gates =
            if options.check_all { "all gates hold, those of this machine too" } else { "all gates hold" };
        println!("check: {gates}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: the gates of {} are missed", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn read(file: &Path) -> Result<Results, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

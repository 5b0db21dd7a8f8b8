//! The envelope split, measured by a program of its own within one process, which is started anew every round.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::case::Place;
use crate::child::{Child, Cores};
use crate::results::{CaseResult, GroupResult, Sample};

/// How often the program is started. Where its memory comes to lie differs from start to start, and a long text shows it.
const ROUNDS: usize = 7;

/// Measures nanoseconds by payload, ours and those of serde_json.
pub(crate) fn measure(place: &Place, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("split");
    let mut group = GroupResult::new("split", "The envelope split, in one process, on one core");
    let cases = PAYLOADS.map(|name| CaseResult {
        name: name.to_string(),
        label: name.to_string(),
        rounds: vec![None; ROUNDS],
    });
    group.cases.extend(cases);
    for round in 0..ROUNDS {
        match run(place) {
            Ok(mut payloads) => {
                for case in &mut group.cases {
                    case.rounds[round] = payloads.remove(&case.name);
                }
            }
            Err(error) if round == 0 => faults.push(format!("split: {error}")),
            Err(_) => {}
        }
    }
    group
}

/// The payloads that the program measures, in the order of the table.
pub(crate) const PAYLOADS: [&str; 4] = ["50 B", "1 KiB", "1 MiB records", "1 MiB string"];

fn run(place: &Place) -> Result<BTreeMap<String, Sample>, String> {
    let command = Command::new(place.built.join("split"));
    let mut child = Child::start(command, Cores::Only(0), &place.directory)?;
    let line = child.line(Duration::from_secs(60))?;
    serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
}

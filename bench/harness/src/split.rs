//! The envelope split, measured by a program of its own within one process.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::case::Place;
use crate::child::{Child, Cores};
use crate::results::{GroupResult, Sample};

/// Nanoseconds by payload, ours and those of serde_json.
pub(crate) fn measure(place: &Place, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("split");
    let mut group = GroupResult::new("split", "The envelope split, in one process, on one core");
    let mut found = run(place);
    for name in PAYLOADS {
        let sample = match &mut found {
            Ok(payloads) => payloads.remove(name).ok_or_else(|| "not measured".to_string()),
            Err(error) => Err(error.clone()),
        };
        group.add_result((name, name), sample, faults);
    }
    group
}

/// What the program measures, in the order of the table.
pub(crate) const PAYLOADS: [&str; 4] = ["50 B", "1 KiB", "1 MiB records", "1 MiB string"];

fn run(place: &Place) -> Result<BTreeMap<String, Sample>, String> {
    let command = Command::new(place.built.join("split"));
    let mut child = Child::start(command, Cores::Only(0), &place.directory)?;
    let line = child.line(Duration::from_secs(60))?;
    serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
}

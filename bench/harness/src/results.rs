//! The results of a run: figures by group, case and round, in memory and as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::statistics::Spread;

/// Everything that a run found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) groups: Vec<GroupResult>,
    /// The faults of the run, each with the name of the case.
    pub(crate) faults: Vec<String>,
}

/// The cases of a group, measured turn by turn.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupResult {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) cases: Vec<CaseResult>,
}

/// One row of a table: a sample for each round, none where it failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaseResult {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) rounds: Vec<Option<Sample>>,
}

/// Figures of one round by their names: `p50_us`, `per_second`, `cpu_us` and so on.
pub(crate) type Sample = BTreeMap<String, f64>;

impl Results {
    pub(crate) fn group(&self, name: &str) -> Option<&GroupResult> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Returns a figure of a case in every round.
    pub(crate) fn figures(&self, group: &str, case: &str, metric: &str) -> Vec<Option<f64>> {
        self.group(group)
            .and_then(|group| group.case(case))
            .map(|case| case.figures(metric))
            .unwrap_or_default()
    }
}

impl GroupResult {
    pub(crate) fn new(name: &str, title: &str) -> Self {
        Self { name: name.to_string(), title: title.to_string(), cases: Vec::new() }
    }

    pub(crate) fn case(&self, name: &str) -> Option<&CaseResult> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// Adds a row that was measured once. If that failed, the row is there without figures.
    pub(crate) fn add(&mut self, name: &str, label: &str, sample: Option<Sample>) {
        let (name, label) = (name.to_string(), label.to_string());
        self.cases.push(CaseResult { name, label, rounds: vec![sample] });
    }

    /// Adds such a row from a result whose error is noted among the faults.
    pub(crate) fn add_result(
        &mut self,
        (name, label): (&str, &str),
        result: Result<Sample, String>,
        faults: &mut Vec<String>,
    ) {
        if let Err(error) = &result {
            eprintln!("  failed: {name}");
            faults.push(format!("{}/{name}: {error}", self.name));
        }
        self.add(name, label, result.ok());
    }
}

impl CaseResult {
    pub(crate) fn figures(&self, metric: &str) -> Vec<Option<f64>> {
        self.rounds.iter().map(|round| round.as_ref()?.get(metric).copied()).collect()
    }

    pub(crate) fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(self.figures(metric).into_iter().flatten())
    }

    pub(crate) fn median(&self, metric: &str) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }
}

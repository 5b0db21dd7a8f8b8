//! Groups in rounds: A B C, then C B A, so that what drifts meets all alike.

use std::time::Instant;

use crate::case::{Case, Place, seconds};
use crate::results::{CaseResult, GroupResult};

/// Cases that are compared with each other.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rounds: usize,
    pub(crate) cases: Vec<Case>,
}

impl Group {
    /// Measures all cases. One that fails in its first round is named and left out of the others.
    pub(crate) fn measure(&self, place: &Place, rounds: usize, faults: &mut Vec<String>) -> GroupResult {
        let begun = Instant::now();
        eprint!("{:<22}", self.name);
        let mut result = GroupResult::new(self.name, self.title);
        for case in &self.cases {
            let (name, label) = (case.name.clone(), case.label.clone());
            result.cases.push(CaseResult { name, label, rounds: vec![None; rounds] });
        }
        let mut failed = vec![false; self.cases.len()];
        for round in 0..rounds {
            for at in order(self.cases.len(), round) {
                if failed[at] {
                    continue;
                }
                match self.cases[at].measure(place) {
                    Ok(sample) => result.cases[at].rounds[round] = Some(sample),
                    Err(error) => {
                        faults.push(format!(
                            "{}/{}, round {}: {error}",
                            self.name,
                            self.cases[at].name,
                            round + 1
                        ));
                        failed[at] = round == 0;
                    }
                }
            }
            eprint!(".");
        }
        eprintln!(" {}", seconds(begun));
        for (case, _) in self.cases.iter().zip(&failed).filter(|(_, failed)| **failed) {
            eprintln!("  failed: {}", case.name);
        }
        result
    }
}

/// Returns the order of a round.
fn order(cases: usize, round: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..cases).collect() } else { (0..cases).rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn every_second_round_goes_backwards() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
        assert_eq!(order(3, 2), [0, 1, 2]);
    }
}

//! The attacks, by what they are aimed at.

mod answers;
mod bodies;
mod calls;
mod clients;
mod compression;
mod connections;
mod events;
mod hellos;
mod packets;
mod streams;
mod system;
mod texts;

use crate::scenario::Scenario;

/// Returns all of them, in the order in which they are run.
pub(crate) fn all() -> Vec<Scenario> {
    [
        connections::SCENARIOS,
        bodies::SCENARIOS,
        texts::SCENARIOS,
        compression::SCENARIOS,
        hellos::SCENARIOS,
        packets::SCENARIOS,
        calls::SCENARIOS,
        streams::SCENARIOS,
        answers::SCENARIOS,
        events::SCENARIOS,
        system::SCENARIOS,
        clients::SCENARIOS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_scenario_has_a_name_of_its_own_and_says_what_it_does() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 60);
        for scenario in all {
            assert!(!scenario.about.is_empty() && scenario.about.len() < 100, "{}", scenario.name);
            assert!(!scenario.targets.is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn attacks_end_before_the_watchdog() {
        for scenario in all() {
            assert!(
                scenario.time.0 <= Duration::from_secs(60) && scenario.time.1 <= Duration::from_secs(5),
                "{}",
                scenario.name
            );
        }
    }
}

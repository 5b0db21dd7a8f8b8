//! The goals against what was found.

use crate::format::{bound, number};
use crate::goals::{self, Condition, Figure, Nearest};
use crate::results::Results;
use crate::statistics::Spread;

/// What became of a condition.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) condition: Condition,
    /// None: it could not be measured.
    pub(crate) reached: Option<Spread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Met,
    /// Not met, by no more than such figures vary.
    WithinGate,
    /// Not met, and no worse than the nearest figure by more than such figures vary.
    KnownLimit,
    Missed,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn state(&self) -> State {
        match self.reached {
            None => State::NotMeasured,
            Some(spread) if self.condition.bound.holds(spread.median) => State::Met,
            Some(spread) if !self.condition.gate().holds(spread.median) => State::Missed,
            Some(_) if self.condition.nearest.is_some() => State::KnownLimit,
            Some(_) => State::WithinGate,
        }
    }

    /// The state in words; of a known limit also the goal and what is held instead.
    pub(crate) fn text(&self) -> String {
        let Condition { bound: goal, .. } = self.condition;
        match self.state() {
            State::Met => "met".to_string(),
            State::WithinGate => "within the gate".to_string(),
            State::KnownLimit => {
                format!("not met (goal {}, held at {})", bound(goal), bound(self.condition.held_at()))
            }
            State::Missed => "missed".to_string(),
            State::NotMeasured => "not measured".to_string(),
        }
    }

    /// What limits a figure that does not meet its goal, if that is known.
    pub(crate) fn limit(&self) -> Option<Nearest> {
        self.condition.nearest.filter(|_| self.state() != State::Met)
    }

    /// `reached, half of the rounds between .. and ..`
    pub(crate) fn figure(&self) -> String {
        match self.reached {
            None => "-".to_string(),
            Some(spread) if spread.lower == spread.upper => number(spread.median),
            Some(spread) => {
                format!("{} ({}-{})", number(spread.median), number(spread.lower), number(spread.upper))
            }
        }
    }
}

/// All conditions whose rows the run was to measure.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    let planned =
        |figure: Figure| results.group(figure.group).is_some_and(|group| group.case(figure.case).is_some());
    goals::all()
        .into_iter()
        .filter(|condition| planned(condition.top) && condition.bottom.is_none_or(planned))
        .map(|condition| Verdict { reached: reached(results, &condition), condition })
        .collect()
}

fn reached(results: &Results, condition: &Condition) -> Option<Spread> {
    let figures = |figure: Figure| results.figures(figure.group, figure.case, figure.metric);
    let top = figures(condition.top);
    let spread = match condition.bottom {
        Some(bottom) => Spread::of_ratios(&top, &figures(bottom)),
        None => Spread::of(top.into_iter().flatten()),
    }?;
    let by = |figure| figure * condition.factor;
    Some(Spread { median: by(spread.median), lower: by(spread.lower), upper: by(spread.upper) })
}

/// How many conditions are in each state, in words.
pub(crate) fn summary(verdicts: &[Verdict]) -> String {
    let count = |state| verdicts.iter().filter(|verdict| verdict.state() == state).count();
    format!(
        "{} conditions: {} met, {} not met but within the gate, {} not met with a known limit held, {} missed, {} not \
         measured.",
        verdicts.len(),
        count(State::Met),
        count(State::WithinGate),
        count(State::KnownLimit),
        count(State::Missed),
        count(State::NotMeasured),
    )
}

/// The goals as lines with a summary, and the names of those whose gates are missed.
pub(crate) fn report(verdicts: &[Verdict]) -> (String, Vec<&'static str>) {
    let mut text = String::new();
    let mut missed: Vec<&'static str> = Vec::new();
    for verdict in verdicts {
        let condition = &verdict.condition;
        let state = verdict.state();
        text += &format!(
            "{:<3} {:<78} {:>22}  goal {:<9} gate {:<9} {}\n",
            condition.goal,
            condition.says,
            verdict.figure(),
            bound(condition.bound),
            bound(condition.gate()),
            verdict.text(),
        );
        if let Some(limit) = verdict.limit() {
            text += &format!("{:<3}   limited by {}\n", "", limit.limited_by);
        }
        if matches!(state, State::Missed | State::NotMeasured) && !missed.contains(&condition.goal) {
            missed.push(condition.goal);
        }
    }
    (text + &summary(verdicts) + "\n", missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Bound;
    use crate::results::{CaseResult, GroupResult, Sample};

    fn results(blocking: &[Option<f64>]) -> Results {
        let case = |name: &str, figures: &[Option<f64>]| {
            let sample = |figure: f64| Sample::from([("p50_us".to_string(), figure)]);
            let rounds = figures.iter().map(|figure| figure.map(sample)).collect();
            CaseResult { name: name.to_string(), label: name.to_string(), rounds }
        };
        let mut group = GroupResult::new("latency-unix", "");
        group.cases = vec![case("raw", &[Some(10.0), Some(20.0), Some(10.0)]), case("blocking", blocking)];
        let machine = crate::machine::Machine {
            processor: String::new(),
            cores: 2,
            memory_gib: 1.0,
            kernel: String::new(),
            rustc: String::new(),
            commit: String::new(),
            date: String::new(),
            versions: Vec::new(),
        };
        Results { machine, groups: vec![group], faults: Vec::new() }
    }

    fn state(blocking: &[Option<f64>]) -> State {
        let mut verdicts = verdicts(&results(blocking));
        // Only S1 has both of its rows here. Its own nearest figure is none of this test's business.
        assert_eq!(verdicts.iter().map(|verdict| verdict.condition.goal).collect::<Vec<_>>(), ["S1"]);
        verdicts[0].condition.nearest = None;
        verdicts[0].state()
    }

    #[test]
    fn the_goal_the_gate_and_what_is_beyond() {
        assert_eq!(state(&[Some(11.0), Some(22.0), Some(11.0)]), State::Met);
        assert_eq!(state(&[Some(13.0), Some(26.0), Some(13.0)]), State::WithinGate);
        assert_eq!(state(&[Some(14.0), Some(28.0), Some(14.0)]), State::Missed);
    }

    #[test]
    fn what_failed_is_not_measured_and_its_goal_is_missed() {
        assert_eq!(state(&[None, None, None]), State::NotMeasured);
        let (_, missed) = report(&verdicts(&results(&[None, None, None])));
        assert_eq!(missed, ["S1"]);
    }

    /// A condition whose goal is at most 2 and whose nearest figure is 4, so its gate lies at 4.6.
    fn held(reached: Option<f64>) -> Verdict {
        let s1 = goals::all().into_iter().find(|condition| condition.goal == "S1").unwrap();
        let nearest = Some(Nearest { figure: 4.0, limited_by: "the weather" });
        let condition = Condition { bound: Bound::AtMost(2.0), nearest, ..s1 };
        Verdict { condition, reached: reached.and_then(|figure| Spread::of([figure])) }
    }

    #[test]
    fn a_known_limit_is_held_or_missed_and_a_goal_that_is_met_is_met() {
        let state = |figure| held(figure).state();
        assert_eq!(state(Some(1.9)), State::Met);
        // Within the margin of the goal it is still not met, and the limit is known.
        assert_eq!(state(Some(2.2)), State::KnownLimit);
        assert_eq!(state(Some(4.6)), State::KnownLimit);
        assert_eq!(state(Some(4.7)), State::Missed);
        assert_eq!(state(None), State::NotMeasured);
    }

    #[test]
    fn a_report_says_what_is_held_and_what_limits_it() {
        let (text, missed) = report(&[held(Some(4.2))]);
        assert!(missed.is_empty());
        assert!(text.contains("not met (goal <= 2.00, held at <= 4.00)\n"), "{text}");
        assert!(text.contains("limited by the weather\n"), "{text}");
        let (text, missed) = report(&[held(Some(5.0))]);
        assert_eq!(missed, ["S1"]);
        assert!(text.contains(" missed\n") && text.contains("limited by the weather\n"), "{text}");
        let (text, _) = report(&[held(Some(1.0))]);
        assert!(text.contains(" met\n") && !text.contains("limited"), "{text}");
    }

    #[test]
    fn a_summary_counts_each_state_apart() {
        let within =
            Verdict { condition: Condition { nearest: None, ..held(None).condition }, ..held(Some(2.2)) };
        let verdicts =
            [held(Some(1.0)), held(Some(1.0)), within, held(Some(4.2)), held(Some(5.0)), held(None)];
        assert_eq!(
            summary(&verdicts),
            "6 conditions: 2 met, 1 not met but within the gate, 1 not met with a known limit held, 1 missed, 1 not \
             measured."
        );
    }

    #[test]
    fn one_round_that_failed_does_not_count() {
        assert_eq!(state(&[None, Some(22.0), Some(11.0)]), State::Met);
    }
}

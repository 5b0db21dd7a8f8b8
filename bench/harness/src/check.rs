//! The goals against what was found.

use crate::format::{bound, number};
use crate::goals::{self, Condition, Figure, Nearest};
use crate::results::Results;
use crate::statistics::Spread;

/// The outcome of a condition.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) condition: Condition,
    /// None: it could not be measured.
    pub(crate) reached: Option<Spread>,
    /// The ratio to the bare socket, where the condition shows one beside.
    pub(crate) of_bare: Option<Spread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Met,
    /// Not met, by no more than such figures vary.
    WithinGate,
    /// Not met, and the figure depends on the machine: only `--check-all` demands it.
    Reported,
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
            Some(_) if !self.condition.travels() => State::Reported,
            Some(_) if !self.is_within_gate() => State::Missed,
            Some(_) if self.condition.nearest.is_some() => State::KnownLimit,
            Some(_) => State::WithinGate,
        }
    }

    /// Whether the gate holds, also where only `--check-all` demands it.
    fn is_within_gate(&self) -> bool {
        self.reached.is_some_and(|spread| self.condition.gate().holds(spread.median))
    }

    /// Whether a check fails. `everything`: a figure that depends on the machine counts too.
    fn is_failed(&self, everything: bool) -> bool {
        match self.state() {
            State::Missed | State::NotMeasured => true,
            State::Reported => everything && !self.is_within_gate(),
            State::Met | State::WithinGate | State::KnownLimit => false,
        }
    }

    /// Returns the state in words; of a known limit also the goal and what is held instead.
    pub(crate) fn text(&self) -> String {
        let Condition { bound: goal, .. } = self.condition;
        match self.state() {
            State::Met => "met".to_string(),
            State::WithinGate => "within the gate".to_string(),
            State::KnownLimit => {
                format!("not met (goal {}, held at {})", bound(goal), bound(self.condition.held_at()))
            }
            State::Reported => "not met (not gated: depends on the machine)".to_string(),
            State::Missed => "missed".to_string(),
            State::NotMeasured => "not measured".to_string(),
        }
    }

    /// Returns what limits a figure that does not meet its goal, if that is known.
    pub(crate) fn limit(&self) -> Option<Nearest> {
        self.condition.nearest.filter(|_| self.state() != State::Met)
    }

    /// Returns the figure that is reached, with the two figures between which half of the rounds lie.
    pub(crate) fn figure(&self) -> String {
        figure(self.reached)
    }

    /// Returns the ratio to the bare socket; nothing where the condition shows none beside.
    pub(crate) fn figure_of_bare(&self) -> String {
        if self.condition.bare.is_some() { figure(self.of_bare) } else { String::new() }
    }
}

fn figure(spread: Option<Spread>) -> String {
    match spread {
        None => "-".to_string(),
        Some(spread) if spread.lower == spread.upper => number(spread.median),
        Some(spread) => {
            format!("{} ({}-{})", number(spread.median), number(spread.lower), number(spread.upper))
        }
    }
}

/// Returns all conditions whose rows the run was to measure.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    let planned =
        |figure: Figure| results.group(figure.group).is_some_and(|group| group.case(figure.case).is_some());
    goals::all()
        .into_iter()
        .filter(|condition| planned(condition.top) && condition.bottom.is_none_or(planned))
        .map(|condition| Verdict {
            reached: reached(results, &condition, condition.bottom),
            of_bare: condition.bare.and_then(|bare| reached(results, &condition, Some(bare))),
            condition,
        })
        .collect()
}

fn reached(results: &Results, condition: &Condition, bottom: Option<Figure>) -> Option<Spread> {
    let figures = |figure: Figure| results.figures(figure.group, figure.case, figure.metric);
    let top = figures(condition.top);
    let spread = match bottom {
        Some(bottom) => Spread::of_ratios(&top, &figures(bottom)),
        None => Spread::of(top.into_iter().flatten()),
    }?;
    let by = |figure| figure * condition.factor;
    Some(Spread { median: by(spread.median), lower: by(spread.lower), upper: by(spread.upper) })
}

/// Returns how many conditions are in each state, in words.
pub(crate) fn summary(verdicts: &[Verdict]) -> String {
    let count = |state| verdicts.iter().filter(|verdict| verdict.state() == state).count();
    format!(
        "{} conditions: {} met, {} not met but within the gate, {} not met with a known limit held, {} missed, {} not \
         met of what depends on the machine, {} not measured.",
        verdicts.len(),
        count(State::Met),
        count(State::WithinGate),
        count(State::KnownLimit),
        count(State::Missed),
        count(State::Reported),
        count(State::NotMeasured),
    )
}

/// Returns the goals as lines with a summary, and the names of those whose gates are missed. `everything`: figures that
/// depend on the machine count too.
pub(crate) fn report(verdicts: &[Verdict], everything: bool) -> (String, Vec<&'static str>) {
    let mut text = String::new();
    let mut missed: Vec<&'static str> = Vec::new();
    for verdict in verdicts {
        let condition = &verdict.condition;
        let is_gated = everything || condition.travels();
        text += &format!(
            "{:<3} {:<78} {:>22}  goal {:<9} gate {:<9} {}\n",
            condition.goal,
            condition.says,
            verdict.figure(),
            bound(condition.bound),
            if is_gated { bound(condition.gate()) } else { "none".to_string() },
            verdict.text(),
        );
        if condition.bare.is_some() {
            text += &format!("{:<3}   of the bare socket {}\n", "", verdict.figure_of_bare());
        }
        if let Some(limit) = verdict.limit() {
            text += &format!("{:<3}   limited by {}\n", "", limit.limited_by);
        }
        if verdict.is_failed(everything) && !missed.contains(&condition.goal) {
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
        let limit = [Some(10.0), Some(20.0), Some(10.0)];
        let raw = limit.map(|figure| figure.map(|figure| figure / 2.0));
        group.cases = vec![case("raw", &raw), case("same-work", &limit), case("blocking", blocking)];
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
        assert_eq!(state(&[Some(12.0), Some(24.0), Some(12.0)]), State::Met);
        assert_eq!(state(&[Some(13.0), Some(26.0), Some(13.0)]), State::WithinGate);
        assert_eq!(state(&[Some(14.0), Some(28.0), Some(14.0)]), State::Missed);
    }

    #[test]
    fn the_bare_socket_stands_beside_and_is_not_demanded() {
        let verdicts = verdicts(&results(&[Some(11.0), Some(22.0), Some(11.0)]));
        assert_eq!((verdicts[0].figure(), verdicts[0].figure_of_bare()), ("1.10".into(), "2.20".into()));
        let (text, missed) = report(&verdicts, true);
        assert!(missed.is_empty() && text.contains("of the bare socket 2.20\n"), "{text}");
    }

    #[test]
    fn what_depends_on_the_machine_is_told_and_demanded_on_request() {
        let c1 = goals::all().into_iter().find(|condition| condition.goal == "C1").unwrap();
        let nearest = Some(Nearest { figure: 0.8, limited_by: "the weather" });
        let condition = Condition { bound: Bound::AtLeast(1.0), nearest, ..c1 };
        let verdict = |figure| Verdict { condition, reached: Spread::of([figure]), of_bare: None };
        assert_eq!(verdict(1.1).state(), State::Met);
        assert_eq!(verdict(0.1).state(), State::Reported);
        assert!(report(&[verdict(0.1)], false).1.is_empty());
        assert_eq!(report(&[verdict(0.1)], true).1, ["C1"]);
        assert!(report(&[verdict(0.8)], true).1.is_empty());
        let unmeasured = Verdict { reached: None, ..verdict(1.0) };
        assert_eq!(report(&[unmeasured], false).1, ["C1"]);
    }

    #[test]
    fn what_failed_is_not_measured_and_its_goal_is_missed() {
        assert_eq!(state(&[None, None, None]), State::NotMeasured);
        let (_, missed) = report(&verdicts(&results(&[None, None, None])), false);
        assert_eq!(missed, ["S1"]);
    }

    /// Returns a condition whose goal is at most 2 and whose nearest figure is 4, so its gate lies at 4.6.
    fn held(reached: Option<f64>) -> Verdict {
        let s1 = goals::all().into_iter().find(|condition| condition.goal == "S1").unwrap();
        let nearest = Some(Nearest { figure: 4.0, limited_by: "the weather" });
        let condition = Condition { bound: Bound::AtMost(2.0), nearest, ..s1 };
        Verdict { condition, reached: reached.and_then(|figure| Spread::of([figure])), of_bare: None }
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
        let (text, missed) = report(&[held(Some(4.2))], false);
        assert!(missed.is_empty());
        assert!(text.contains("not met (goal <= 2.00, held at <= 4.00)\n"), "{text}");
        assert!(text.contains("limited by the weather\n"), "{text}");
        let (text, missed) = report(&[held(Some(5.0))], false);
        assert_eq!(missed, ["S1"]);
        assert!(text.contains(" missed\n") && text.contains("limited by the weather\n"), "{text}");
        let (text, _) = report(&[held(Some(1.0))], false);
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
            "6 conditions: 2 met, 1 not met but within the gate, 1 not met with a known limit held, 1 missed, 0 not \
             met of what depends on the machine, 1 not measured."
        );
    }

    #[test]
    fn one_round_that_failed_does_not_count() {
        assert_eq!(state(&[None, Some(22.0), Some(11.0)]), State::Met);
    }
}

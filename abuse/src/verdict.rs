//! Measured figures, beside their bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::field::{Bound, Fact};
use crate::honest::{CLASSES, Class, Share};
use crate::process::Figures;
use crate::scenario::{Scenario, TOKIO_DESCRIPTORS, TOKIO_THREADS};
use crate::server::Target;
use crate::statistics::{milliseconds, ratio};

/// All that was measured of one run.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) reference: BTreeMap<Class, Share>,
    pub(crate) during: BTreeMap<Class, Share>,
    /// Whether the reference is a load that takes as much processor as the attackers did.
    pub(crate) is_beside_load: bool,
    pub(crate) before: Figures,
    pub(crate) peak_kib: usize,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Processors in use by the server before and during the attack, and by the attackers.
    pub(crate) cores: [f64; 3],
    pub(crate) recovery: Duration,
    /// The time that a sleeping thread overslept at p99 meanwhile: the machine's doing, not the server's.
    pub(crate) oversleep: Duration,
    pub(crate) rest: Option<Duration>,
    pub(crate) after: Figures,
    pub(crate) complaint: Option<String>,
    /// Why the server is not right afterwards, if so.
    pub(crate) wrong: Option<String>,
    pub(crate) stopped: Option<Duration>,
    pub(crate) facts: Vec<Fact>,
}

/// A bound that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) text: String,
    /// Whether another run on a machine that is less busy may have it hold.
    pub(crate) is_of_time: bool,
}

impl Measured {
    /// Returns the class that lost most, and the ratio that it kept.
    pub(crate) fn goodput(&self) -> (Class, f64) {
        let ratios = CLASSES.map(|class| (class, kept(&self.reference[&class], &self.during[&class])));
        ratios.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are classes")
    }

    /// Returns the class whose p99 grew most, what it was and what it is.
    pub(crate) fn p99(&self) -> (Class, Duration, Duration) {
        let times = CLASSES.map(|class| (class, self.reference[&class].p99, self.during[&class].p99));
        times
            .into_iter()
            .max_by_key(|(_, before, during)| during.saturating_sub(*before))
            .expect("there are classes")
    }

    pub(crate) fn memory(&self) -> f64 {
        mib(self.peak_kib) - mib(self.before.resident_kib)
    }

    pub(crate) fn memory_after(&self) -> f64 {
        mib(self.after.resident_kib) - mib(self.before.resident_kib)
    }

    /// Returns the bounds that the honest clients' figures break.
    pub(crate) fn breaches_of_service(&self, scenario: &Scenario) -> Vec<Breach> {
        let bounds = &scenario.bounds;
        let mut breaches = Vec::new();
        for class in CLASSES {
            let (before, during) = (&self.reference[&class], &self.during[&class]);
            let kept = kept(before, during);
            if kept < bounds.goodput {
                let text = format!(
                    "goodput {class} {kept:.2} < {:.2} ({} lost, {} refused of {})",
                    bounds.goodput, during.lost, during.refused, during.calls
                );
                breaches.push(Breach { text, is_of_time: true });
            }
            let most = bounds.p99.max(2 * before.p99) + SLEEPS_OF_A_CALL * self.oversleep;
            if during.p99 > most {
                let text = format!("p99 {class} {} > {}", milliseconds(during.p99), milliseconds(most));
                breaches.push(Breach { text, is_of_time: true });
            }
            if during.wrong > 0 {
                breaches.push(Breach {
                    text: format!("{} wrong answers {class}", during.wrong),
                    is_of_time: false,
                });
            }
        }
        breaches
    }

    /// Returns all bounds that do not hold.
    pub(crate) fn breaches(&self, scenario: &Scenario, target: Target) -> Vec<Breach> {
        let bounds = &scenario.bounds;
        let mut breaches = self.breaches_of_service(scenario);
        let (descriptors, threads) = match target {
            Target::Tokio => (TOKIO_DESCRIPTORS, TOKIO_THREADS),
            Target::Blocking | Target::Demo => (bounds.descriptors, bounds.threads),
        };
        let [cores_before, cores, _] = self.cores;
        let amounts = [
            ("memory MiB", self.memory(), bounds.memory),
            ("memory MiB afterwards", self.memory_after(), bounds.memory_after),
            ("descriptors", self.descriptors as f64, descriptors as f64),
            ("threads", self.threads as f64, threads as f64),
        ];
        for (name, value, most) in amounts {
            if value > most {
                breaches.push(Breach { text: format!("{name} {value:.0} > {most:.0}"), is_of_time: false });
            }
        }
        if cores - cores_before > bounds.cores {
            let text = format!("server's processors {:.2} > {:.2}", cores - cores_before, bounds.cores);
            breaches.push(Breach { text, is_of_time: true });
        }
        if self.recovery > bounds.recovery {
            let text =
                format!("recovery {} > {}", milliseconds(self.recovery), milliseconds(bounds.recovery));
            breaches.push(Breach { text, is_of_time: true });
        }
        if self.rest.is_none() {
            let text = format!(
                "not at rest after {} s: {} descriptors ({} before), {} threads ({}), {:+.0} MiB",
                bounds.rest.as_secs(),
                self.after.descriptors,
                self.before.descriptors,
                self.after.threads,
                self.before.threads,
                self.memory_after()
            );
            breaches.push(Breach { text, is_of_time: false });
        }
        if let Some(wrong) = &self.wrong {
            breaches.push(Breach { text: format!("not right afterwards: {wrong}"), is_of_time: false });
        }
        if self.stopped.is_none() {
            breaches.push(Breach { text: "it does not stop".to_string(), is_of_time: false });
        }
        for Fact { name, value, bound } in &self.facts {
            if !bound.holds(*value) {
                let text = match bound {
                    Bound::AtMost(most) => format!("{name} {} > {}", round(*value), round(*most)),
                    Bound::AtLeast(least) => format!("{name} {} < {}", round(*value), round(*least)),
                };
                breaches.push(Breach { text, is_of_time: false });
            }
        }
        breaches
    }
}

/// How often the two sides of a call wait for a processor, at most.
const SLEEPS_OF_A_CALL: u32 = 4;

/// Returns the part of its right answers a second that a class kept. One call may lie on the edge of a window.
fn kept(before: &Share, during: &Share) -> f64 {
    if before.right == 0 {
        return 1.0;
    }
    let ratio = ratio((during.right + 1) as f64 / during.seconds, before.right as f64 / before.seconds);
    if during.right == 0 { 0.0 } else { ratio.min(1.0) }
}

/// Writes a figure with as many digits as matter.
pub(crate) fn round(value: f64) -> String {
    if value.abs() >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn mib(kib: usize) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::USUAL;

    fn measured(right: usize, p99: u64) -> Measured {
        let share = |right, p99| Share {
            right,
            seconds: 1.0,
            p99: Duration::from_millis(p99),
            calls: 100,
            ..Share::default()
        };
        let before = Figures { resident_kib: 4096, descriptors: 12, threads: 6, ..Figures::default() };
        Measured {
            reference: CLASSES.into_iter().map(|class| (class, share(100, 2))).collect(),
            during: CLASSES
                .into_iter()
                .map(
                    |class| {
                        if class == Class::New { (class, share(right, p99)) } else { (class, share(100, 2)) }
                    },
                )
                .collect(),
            is_beside_load: false,
            before,
            peak_kib: 8192,
            descriptors: 40,
            threads: 12,
            cores: [0.1, 0.2, 0.1],
            recovery: Duration::ZERO,
            oversleep: Duration::ZERO,
            rest: Some(Duration::ZERO),
            after: before,
            complaint: None,
            wrong: None,
            stopped: Some(Duration::ZERO),
            facts: Vec::new(),
        }
    }

    #[test]
    fn a_class_that_is_locked_out_is_found_among_others_that_are_not() {
        let breaches = measured(9, 1_000).breaches(&USUAL, Target::Blocking);
        let texts: Vec<_> = breaches.iter().map(|breach| breach.text.as_str()).collect();
        assert_eq!(texts, ["goodput new 0.10 < 0.80 (0 lost, 0 refused of 100)", "p99 new 1000 ms > 25 ms"]);
        assert!(breaches.iter().all(|breach| breach.is_of_time));
        assert!(measured(85, 20).breaches(&USUAL, Target::Blocking).is_empty());
    }

    #[test]
    fn what_is_kept_afterwards_is_a_breach() {
        let mut kept = measured(100, 2);
        kept.after.resident_kib += 30 * 1024;
        kept.rest = None;
        assert_eq!(kept.breaches(&USUAL, Target::Tokio).len(), 2);
        kept.facts.push(Fact { name: "calls run", value: 245.0, bound: Bound::AtLeast(1_000.0) });
        assert_eq!(kept.breaches(&USUAL, Target::Tokio)[2].text, "calls run 245 < 1000");
    }
}

//! The goals, each with what it compares, its bound, and the gate at which a check fails.

/// One condition of a goal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) goal: &'static str,
    pub(crate) says: &'static str,
    pub(crate) top: Figure,
    /// None: the figure itself is bounded.
    pub(crate) bottom: Option<Figure>,
    /// The bare socket that is shown beside a limit with the same work. No check demands it.
    pub(crate) bare: Option<Figure>,
    /// The factor that the ratio is multiplied with, where the two figures are of different amounts.
    pub(crate) factor: f64,
    pub(crate) bound: Bound,
    pub(crate) margin: Margin,
    /// Where the goal is not reached: what is, so that a check finds when it becomes worse.
    pub(crate) nearest: Option<Nearest>,
}

/// The nearest to a goal that the product comes, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nearest {
    pub(crate) figure: f64,
    /// The cause that limits it, in a few words; docs/benchmarks/README.md has them all.
    pub(crate) limited_by: &'static str,
}

/// A figure: `metric` of `case` in `group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figure {
    pub(crate) group: &'static str,
    pub(crate) case: &'static str,
    pub(crate) metric: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How far a gate lies beyond the goal: as far as such figures vary from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Margin {
    /// Sizes.
    None,
    /// Counts: what a timer adds now and then.
    Count,
    /// Instructions: what happens by the clock is in them, and more of it under callgrind.
    Instructions,
    /// Times on one core, and memory.
    OneCore,
    /// Times on both cores.
    BothCores,
}

impl Figure {
    pub(crate) fn is(&self, group: &str, case: &str) -> bool {
        self.group == group && self.case == case
    }
}

impl Condition {
    /// Whether the figure means the same on every machine: a count, a size, or a ratio to a limit with the same work. Only
    /// such a figure has a gate. Any other ratio of times measures the kernel and the processor as well as us.
    pub(crate) fn travels(&self) -> bool {
        !TIMES.contains(&self.top.metric)
            || self.bottom.is_some_and(|bottom| bottom.case.starts_with("same-work"))
    }

    /// Returns the bound that is known to be reached: the goal, unless there is a nearest figure.
    pub(crate) fn held_at(&self) -> Bound {
        match (self.bound, self.nearest) {
            (Bound::AtMost(_), Some(nearest)) => Bound::AtMost(nearest.figure),
            (Bound::AtLeast(_), Some(nearest)) => Bound::AtLeast(nearest.figure),
            (goal, None) => goal,
        }
    }

    /// Returns the bound that a check demands: what is known to be reached, with the margin.
    pub(crate) fn gate(&self) -> Bound {
        let part = match self.margin {
            Margin::None => 0.0,
            Margin::Count => 0.02,
            Margin::Instructions => 0.06,
            Margin::OneCore => 0.15,
            Margin::BothCores => 0.30,
        };
        match self.held_at() {
            Bound::AtMost(most) => Bound::AtMost(most * (1.0 + part)),
            Bound::AtLeast(least) => Bound::AtLeast(least * (1.0 - part)),
        }
    }
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

/// Figures that are times, or made of them.
const TIMES: [&str; 6] = ["p50_us", "p99_us", "per_second", "cpu_us", "start_us", "ours_ns"];

/// Goals that are not reached: goal and what it says, the nearest figure, and what limits it. Each full run reaches the
/// nearest figure, on a noisy day too. A goal that is reached has no place here.
#[rustfmt::skip]
const NEAREST: &[(&str, &str, f64, &str)] = &[
    ("I1", "instructions of a blocking session's client, a call", 7515.0, "envelope, limits and counters of each call"),
    ("I1", "instructions of a blocking session's server, a call", 8402.0, "envelope, limits and counters of each call"),
    ("I1", "instructions of the core alone, both sides of a call", 8112.0, "envelope and call table of each call"),
    ("C1", "classic, Unix, throughput of a raw accept loop", 0.663, "six system calls a side, a limit among them, and the wake-ups of acceptors"),
    ("C1", "classic, TCP, throughput of a raw accept loop", 0.809, "six and seven system calls a side, and the wake-ups of acceptors"),
    ("M1", "64 in flight, throughput of tarpc JSON", 2.56, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of tarpc bincode", 0.947, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of libzmq", 1.14, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of capnp-rpc", 4.62, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of tonic", 7.12, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of hyper", 5.18, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of jsonrpsee (TCP)", 8.52, "serde_json::Value, and what each call has of limits and counters"),
    ("M1", "64 in flight, throughput of NATS (TCP)", 2.53, "serde_json::Value, and what each call has of limits and counters"),
    ("M3", "64 in flight, processor time per call of tarpc JSON", 0.390, "serde_json::Value, and what each call has of limits and counters"),
    ("M5", "64 threads on a session, both cores, throughput of 64 raw connections", 0.783, "each answer wakes a thread"),
    ("B1", "1 MiB echo, throughput of the same work", 0.285, "fresh pages: 270 faults a call in the blocking server, 2 in that of tokio"),
    ("B2", "1 MiB echo, throughput of tarpc bincode", 2.07, "copies, and fresh pages"),
    ("B2", "1 MiB echo, throughput of the Python package", 13.9, "copies, and fresh pages"),
    ("B3", "the first 1 MiB of a session, p50 of a warm one", 4.26, "fresh pages: all memory of a first message is new"),
    ("B3", "peak memory of the server at 16 MiB, of the payload", 5.03, "request and answer live at a time, and buffers are kept for the next"),
    ("B3", "peak memory of the client beside the payload that it sends, of the payload", 9.06, "buffers are kept for the next message, and the allocator keeps more"),
    ("R1", "resident bytes of an idle tokio session, 10,000 of them", 1833.0, "task and registration take 512, link and state machine 920"),
    ("R3", "size of a blocking server, of a bare one", 2.01, "sessions are in every server"),
    ("J1", "envelope split of 50 B, time of serde_json's RawValue", 0.440, "the fixed cost of a call"),
];

/// Returns all conditions, in the order of the goals.
pub(crate) fn all() -> Vec<Condition> {
    let mut all = conditions();
    for condition in &mut all {
        condition.nearest = nearest(NEAREST, condition);
    }
    all
}

fn nearest(table: &[(&str, &str, f64, &'static str)], condition: &Condition) -> Option<Nearest> {
    let is_of = |(goal, says): (&str, &str)| (goal, says) == (condition.goal, condition.says);
    let &(_, _, figure, limited_by) = table.iter().find(|(goal, says, ..)| is_of((goal, says)))?;
    Some(Nearest { figure, limited_by })
}

/// Returns the conditions: a table, with a line for each.
#[rustfmt::skip]
fn conditions() -> Vec<Condition> {
    use Bound::{AtLeast, AtMost};
    use Margin::{BothCores, Count, Instructions, OneCore};

    let ratio = |goal, says, group, metric, top, bottom, bound, margin| Condition {
        goal,
        says,
        top: Figure { group, case: top, metric },
        bottom: Some(Figure { group, case: bottom, metric }),
        bare: None,
        factor: 1.0,
        bound,
        margin,
        nearest: None,
    };
    let plain = |goal, says, group, metric, case, bound, margin| Condition {
        goal,
        says,
        top: Figure { group, case, metric },
        bottom: None,
        bare: None,
        factor: 1.0,
        bound,
        margin,
        nearest: None,
    };
    // Shows the bare socket beside the limit that the condition is about.
    let beside = |bare, condition: Condition| Condition {
        bare: condition.bottom.map(|bottom| Figure { case: bare, ..bottom }),
        ..condition
    };
    let (p50, p99, rate, cpu) = ("p50_us", "p99_us", "per_second", "cpu_us");
    let (unix, tcp) = ("latency-unix", "latency-tcp");
    let (one, free) = ("in-flight-64-one", "in-flight-64-free");
    let calls = "syscalls";
    let of_16_mib = 1.0 / (16.0 * 1024.0);

    let mut all = vec![
        plain("I1", "instructions of a blocking session's client, a call", "instructions", "instructions", "client", AtMost(4800.0), Instructions),
        plain("I1", "instructions of a blocking session's server, a call", "instructions", "instructions", "server", AtMost(4800.0), Instructions),
        plain("I1", "instructions of the core alone, both sides of a call", "instructions", "instructions", "core", AtMost(4500.0), Instructions),
        beside("raw", ratio("S1", "blocking session, Unix, p50 of the same work", unix, p50, "blocking", "same-work", AtMost(1.20), OneCore)),
        beside("raw", ratio("S2", "blocking session, TCP, p50 of the same work", tcp, p50, "blocking", "same-work", AtMost(1.20), OneCore)),
        plain("S3", "system calls of a blocking call, both sides", "system-calls", calls, "blocking", AtMost(4.0), Count),
        plain("S3", "system calls of a tokio call, both sides", "system-calls", calls, "tokio", AtMost(6.0), Count),
        ratio("S4", "tokio session, p50 of tokio with raw bytes", unix, p50, "tokio", "raw-tokio", AtMost(1.10), OneCore),
        ratio("S4", "tokio session, p50 of zeromq", unix, p50, "tokio", "zeromq", AtMost(0.95), OneCore),
        ratio("S4", "tokio session, p50 of tarpc JSON", unix, p50, "tokio", "tarpc-json", AtMost(0.65), OneCore),
        ratio("S5", "spinning on two cores, p50 of the raw ping-pong", "spin-two", p50, "blocking-spin", "raw", AtMost(0.15), BothCores),
        ratio("S5", "spinning on two cores, processor time of the raw ping-pong", "spin-two", cpu, "blocking-spin", "raw", AtMost(0.5), BothCores),
        ratio("S5", "spinning beside a busy process on each core, p99 of not spinning", "spin-hogs", p99, "blocking-spin", "blocking", AtMost(1.5), BothCores),
        ratio("S5", "spinning on one core, p50 of not spinning", "spin-one", p50, "blocking-spin", "blocking", AtMost(1.2), OneCore),
        ratio("C1", "classic, Unix, throughput of a raw accept loop", "classic-unix", rate, "blocking-classic", "raw-connect", AtLeast(0.95), OneCore),
        ratio("C1", "classic, TCP, throughput of a raw accept loop", "classic-tcp", rate, "blocking-classic", "raw-connect", AtLeast(0.95), OneCore),
        ratio("C2", "64 classic at once, Unix, throughput of two raw acceptors", "classic-64-unix", rate, "blocking-classic", "raw-connect-2", AtLeast(1.0), BothCores),
        ratio("C2", "64 classic at once, TCP, throughput of two raw acceptors", "classic-64-tcp", rate, "blocking-classic", "raw-connect-2", AtLeast(0.95), BothCores),
        ratio("C3", "classic, throughput of the Python package", "peers", rate, "blocking-classic", "python", AtLeast(5.5), OneCore),
        ratio("C3", "classic, throughput of the Node package", "peers", rate, "blocking-classic", "node", AtLeast(4.5), OneCore),
        ratio("C3", "many at once, throughput of the Python package", "peers-64", rate, "blocking-classic", "python", AtLeast(15.0), BothCores),
        ratio("C3", "many at once, throughput of the Node package", "peers-64", rate, "blocking-classic", "node", AtLeast(4.5), BothCores),
        ratio("C4", "our client to the Python server, p50 of Python to Python", "peers", p50, "blocking-classic-to-python", "python", AtMost(0.8), OneCore),
        ratio("C4", "the Python client to our server, p50 of Python to Python", "peers", p50, "python-to-blocking-classic", "python", AtMost(0.8), OneCore),
        ratio("C4", "our client to the Node server, p50 of Node to Node", "peers", p50, "blocking-classic-to-node", "node", AtMost(0.8), OneCore),
        ratio("C4", "the Node client to our server, p50 of Node to Node", "peers", p50, "node-to-blocking-classic", "node", AtMost(0.8), OneCore),
    ];
    for (says, neighbour, least) in [
        ("64 in flight, throughput of tarpc JSON", "tarpc-json", 5.0),
        ("64 in flight, throughput of tarpc bincode", "tarpc-bincode", 2.5),
        ("64 in flight, throughput of libzmq", "libzmq", 2.2),
        ("64 in flight, throughput of capnp-rpc", "capnp", 8.0),
        ("64 in flight, throughput of tonic", "tonic", 10.0),
        ("64 in flight, throughput of hyper", "hyper", 10.0),
        ("64 in flight, throughput of jsonrpsee (TCP)", "jsonrpsee-ws", 15.0),
        ("64 in flight, throughput of NATS (TCP)", "nats", 3.5),
    ] {
        all.push(ratio("M1", says, one, rate, "tokio", neighbour, AtLeast(least), OneCore));
    }
    all.extend([
        ratio("M2", "64 in flight, both cores, throughput of tarpc JSON", free, rate, "tokio", "tarpc-json", AtLeast(3.0), BothCores),
        ratio("M2", "64 in flight, both cores, throughput of libzmq", free, rate, "tokio", "libzmq", AtLeast(1.5), BothCores),
        ratio("M2", "64 in flight, both cores, throughput of tarpc bincode", free, rate, "tokio", "tarpc-bincode", AtLeast(2.0), BothCores),
        ratio("M2", "64 in flight, both cores, throughput of raw bytes in one write", free, rate, "tokio", "raw-pipelined", AtLeast(0.45), BothCores),
        ratio("M3", "64 in flight, processor time per call of tarpc JSON", one, cpu, "tokio", "tarpc-json", AtMost(0.25), OneCore),
        plain("M3", "64 in flight, system calls per call, both sides", "system-calls", calls, "tokio-64", AtMost(0.2), OneCore),
        ratio("M4", "64 in flight, both cores, throughput of 64 classic clients", free, rate, "tokio", "blocking-classic", AtLeast(6.0), BothCores),
        ratio("M4", "64 in flight, one core, throughput of 64 classic clients", one, rate, "tokio", "blocking-classic", AtLeast(15.0), OneCore),
        ratio("M5", "64 threads on a session, both cores, throughput of 64 raw connections", free, rate, "blocking", "raw", AtLeast(1.2), BothCores),
        ratio("M5", "64 threads on a session, one core, throughput of 64 raw connections", one, rate, "blocking", "raw", AtLeast(1.6), OneCore),
        beside("raw-bulk", ratio("B1", "1 MiB echo, throughput of the same work", "bulk", rate, "blocking", "same-work-bulk", AtLeast(0.8), BothCores)),
    ]);
    for (says, neighbour, least) in [
        ("1 MiB echo, throughput of nng", "nng", 4.0),
        ("1 MiB echo, throughput of capnp-rpc", "capnp", 4.0),
        ("1 MiB echo, throughput of tarpc bincode", "tarpc-bincode", 4.0),
        ("1 MiB echo, throughput of zlink", "zlink", 4.0),
        ("1 MiB echo, throughput of tarpc JSON", "tarpc-json", 10.0),
        ("1 MiB echo, throughput of the Python package", "python", 25.0),
    ] {
        all.push(ratio("B2", says, "bulk", rate, "blocking", neighbour, AtLeast(least), BothCores));
    }
    all.extend([
        ratio("B3", "the first 1 MiB of a session, p50 of a warm one", "bulk", p50, "blocking-first", "blocking", AtMost(3.0), BothCores),
        Condition {
            factor: 16.0,
            ..ratio("B3", "bytes per second at 16 MiB, of those at 1 MiB", "bulk", rate, "blocking-16m", "blocking", AtLeast(0.6), BothCores)
        },
        Condition {
            factor: of_16_mib,
            ..plain("B3", "peak memory of the server at 16 MiB, of the payload", "bulk", "server_growth_kib", "blocking-16m", AtMost(1.1), OneCore)
        },
        Condition {
            factor: of_16_mib,
            ..plain("B3", "peak memory of the client beside the payload that it sends, of the payload", "bulk", "client_growth_kib", "blocking-16m", AtMost(1.1), OneCore)
        },
        ratio("B4", "small calls beside 16 MiB on another connection, p99 of nothing beside", "beside", p99, "blocking-loaded", "blocking", AtMost(5.0), BothCores),
        plain("R1", "resident bytes of an idle tokio session, 10,000 of them", "memory", "server_bytes_each", "tokio-idle-10000", AtMost(1280.0), OneCore),
        ratio("R2", "cold start, of a bare tokio server", "start", "start_us", "ours-tokio", "min-tokio", AtMost(1.2), OneCore),
        ratio("R3", "size of a tokio server, of a bare one", "size", "bytes", "ours-tokio", "min-tokio", AtMost(2.0), Margin::None),
        ratio("R3", "size of a blocking server, of a bare one", "size", "bytes", "ours-std", "min-std", AtMost(1.6), Margin::None),
    ]);
    for (says, payload, most) in [
        ("envelope split of 50 B, time of serde_json's RawValue", "50 B", 0.3),
        ("envelope split of 1 KiB, time of serde_json's RawValue", "1 KiB", 0.3),
        ("envelope split of 1 MiB of records, time of serde_json's RawValue", "1 MiB records", 0.3),
        ("envelope split of a 1 MiB string, time of serde_json's RawValue", "1 MiB string", 0.4),
    ] {
        let mut condition = ratio("J1", says, "split", "ours_ns", payload, payload, AtMost(most), OneCore);
        condition.bottom = Some(Figure { group: "split", case: payload, metric: "raw_value_ns" });
        all.push(condition);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;

    fn condition(bound: Bound, margin: Margin) -> Condition {
        let figure = Figure { group: "g", case: "c", metric: "m" };
        Condition {
            goal: "X1",
            says: "x",
            top: figure,
            bottom: None,
            bare: None,
            factor: 1.0,
            bound,
            margin,
            nearest: None,
        }
    }

    #[test]
    fn a_gate_lies_beyond_the_goal_on_the_lenient_side() {
        assert_eq!(condition(Bound::AtMost(2.0), Margin::OneCore).gate(), Bound::AtMost(2.3));
        assert_eq!(condition(Bound::AtLeast(2.0), Margin::BothCores).gate(), Bound::AtLeast(1.4));
        assert_eq!(condition(Bound::AtMost(2.0), Margin::None).gate(), Bound::AtMost(2.0));
    }

    #[test]
    fn a_gate_lies_beyond_the_nearest_figure_where_there_is_one() {
        let held = |bound, margin, figure| {
            let condition = condition(bound, margin);
            Condition { nearest: nearest(&[("X1", "x", figure, "why")], &condition), ..condition }
        };
        assert_eq!(held(Bound::AtMost(2.0), Margin::OneCore, 4.0).gate(), Bound::AtMost(4.6));
        assert_eq!(held(Bound::AtLeast(2.0), Margin::BothCores, 1.0).gate(), Bound::AtLeast(0.7));
        assert_eq!(held(Bound::AtMost(2.0), Margin::None, 3.0).gate(), Bound::AtMost(3.0));
    }

    #[test]
    fn a_nearest_figure_belongs_to_one_condition() {
        let condition = condition(Bound::AtMost(2.0), Margin::None);
        assert_eq!(nearest(&[("X1", "y", 3.0, "why"), ("X2", "x", 3.0, "why")], &condition), None);
        let found = nearest(&[("X1", "y", 3.0, ""), ("X1", "x", 4.0, "why")], &condition);
        assert_eq!(found, Some(Nearest { figure: 4.0, limited_by: "why" }));
    }

    #[test]
    fn nearest_figures_are_of_conditions_that_they_do_not_meet() {
        let conditions = conditions();
        for (goal, says, figure, limited_by) in NEAREST {
            let named: Vec<_> =
                conditions.iter().filter(|named| (named.goal, named.says) == (*goal, *says)).collect();
            assert_eq!(named.len(), 1, "{goal} {says}");
            assert!(!named[0].bound.holds(*figure), "{goal} {says}: {figure} meets the goal");
            assert!(!limited_by.is_empty(), "{goal} {says}");
        }
    }

    #[test]
    fn counts_sizes_and_ratios_to_the_same_work_travel_and_other_times_do_not() {
        let of = |metric, bottom: Option<&'static str>| {
            let figure = |case| Figure { group: "g", case, metric };
            let condition = condition(Bound::AtMost(2.0), Margin::OneCore);
            Condition { top: figure("blocking"), bottom: bottom.map(figure), ..condition }.travels()
        };
        assert!(of("syscalls", None) && of("instructions", None) && of("server_bytes_each", None));
        assert!(of("bytes", Some("min-std")) && of("p50_us", Some("same-work")));
        assert!(of("per_second", Some("same-work-bulk")));
        assert!(!of("p50_us", Some("raw")) && !of("per_second", Some("tarpc-json")) && !of("start_us", None));
    }

    #[test]
    fn a_bare_socket_stands_only_beside_what_travels() {
        for condition in all() {
            assert!(condition.bare.is_none() || condition.travels(), "{} {}", condition.goal, condition.says);
            let time = ["_us", "_ns", "per_second"].iter().any(|end| condition.top.metric.ends_with(end));
            assert_eq!(time, TIMES.contains(&condition.top.metric), "{}", condition.top.metric);
        }
    }

    #[test]
    fn bounds_hold_at_their_ends() {
        assert!(Bound::AtMost(1.0).holds(1.0) && !Bound::AtMost(1.0).holds(1.01));
        assert!(Bound::AtLeast(1.0).holds(1.0) && !Bound::AtLeast(1.0).holds(0.99));
        assert!(!Bound::AtMost(1.0).holds(f64::NAN));
    }

    #[test]
    fn every_goal_has_a_condition() {
        let expected = "I1 S1 S2 S3 S4 S5 C1 C2 C3 C4 M1 M2 M3 M4 M5 B1 B2 B3 B4 R1 R2 R3 J1";
        let mut goals: Vec<_> = all().iter().map(|condition| condition.goal).collect();
        goals.dedup();
        assert_eq!(goals.join(" "), expected);
    }

    #[test]
    fn every_figure_of_a_group_in_rounds_is_measured_in_the_full_plan() {
        let groups = plan::groups(true);
        for condition in all() {
            for figure in [Some(condition.top), condition.bottom, condition.bare].into_iter().flatten() {
                if let Some(group) = groups.iter().find(|group| group.name == figure.group) {
                    assert!(group.cases.iter().any(|case| case.name == figure.case), "{figure:?}");
                }
            }
        }
    }
}

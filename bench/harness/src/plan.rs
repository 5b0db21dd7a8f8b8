//! The plan of the measurement: the groups, and which systems stand in each.

use crate::case::{Beside, Case, Pin, Transport};
use crate::rounds::Group;
use crate::systems;

/// Rounds of a group whose figures stand behind a goal, and of one that is only drawn.
const ROUNDS: usize = 7;
const ROUNDS_DRAWN: usize = 3;

/// Calls in flight and sizes that are drawn.
pub(crate) const IN_FLIGHT: [usize; 6] = [1, 4, 16, 64, 128, 256];
pub(crate) const SIZES: [(&str, usize); 7] = [
    ("64", 64),
    ("1024", 1 << 10),
    ("16384", 16 << 10),
    ("131072", 128 << 10),
    ("1m", 1 << 20),
    ("4m", 4 << 20),
    ("16m", 16 << 20),
];

/// Numbers of idle connections.
pub(crate) const IDLE: [usize; 4] = [100, 1_000, 3_000, 10_000];

/// Spinning, which the blocking face has, beside not spinning.
const SPINNING: [&str; 3] = ["blocking", "blocking-spin", "tokio"];

/// Ours that make no tree of values of what they carry, and neighbours that do not even look at it. They are to be
/// compared with each other, and with tarpc's bincode.
const TEXTS: [&str; 2] = ["blocking-text", "tokio-text"];
const RAW: [&str; 4] = ["tarpc-json-raw", "zeromq-raw", "libzmq-raw", "nng-raw"];

/// Returns all groups that are measured in rounds. The quick plan has the limits and us, the full one all systems.
pub(crate) fn groups(full: bool) -> Vec<Group> {
    let mut groups = vec![
        one_in_flight("latency-unix", "One call in flight, Unix socket, one core", Transport::Unix),
        one_in_flight("latency-tcp", "One call in flight, TCP, one core", Transport::Tcp),
        group("classic-unix", "A connection for each call, one at a time, Unix socket, one core", {
            let shape = Shape::small(Transport::Unix, Pin::One);
            shape.all(&["raw-connect", "raw-connect-8", "blocking-classic", "tokio-classic"])
        }),
        group("classic-tcp", "A connection for each call, one at a time, TCP, one core", {
            let shape = Shape::small(Transport::Tcp, Pin::One);
            shape.all(&["raw-connect", "raw-connect-8", "blocking-classic", "tokio-classic"])
        }),
        group("classic-64-unix", "A connection for each call, 64 at a time, Unix socket, both cores", {
            let shape = Shape::small(Transport::Unix, Pin::Free).in_flight(64);
            shape.all(&["raw-connect-2", "raw-connect-8", "blocking-classic", "tokio-classic"])
        }),
        group("classic-64-tcp", "A connection for each call, 64 at a time, TCP, both cores", {
            let shape = Shape::small(Transport::Tcp, Pin::Free).in_flight(64);
            shape.all(&["raw-connect-2", "raw-connect-8", "blocking-classic", "tokio-classic"])
        }),
        many_in_flight("in-flight-64-one", "64 calls in flight, one core", Pin::One),
        many_in_flight("in-flight-64-free", "64 calls in flight, both cores", Pin::Free),
        group("spin-two", "One call in flight, Unix socket, both cores", {
            // The limit is kept on both. A process that is pinned to one core does not spin: so the others are not.
            let mut cases = Shape::small(Transport::Unix, Pin::Two).all(&["raw"]);
            cases.extend(Shape::small(Transport::Unix, Pin::Free).all(&SPINNING));
            cases
        }),
        group("spin-hogs", "The same with a process on each core that only computes", {
            // The scheduler's turns make the p99, so it needs many of them.
            let shape = Shape::small(Transport::Unix, Pin::Free);
            Shape { beside: Beside::Hogs, millis: 600, ..shape }.all(&SPINNING)
        }),
        group("spin-one", "The same with both sides on one core", {
            Shape::small(Transport::Unix, Pin::One).all(&SPINNING)
        }),
        bulk(),
        beside(),
    ];
    if full {
        groups.extend([
            peers("peers", "The published packages and us, one call in flight, Unix socket, one core"),
            group("peers-64", "The published packages and us, many at a time, Unix socket, both cores", {
                let shape = Shape { warm: 5000, ..Shape::small(Transport::Unix, Pin::Free).in_flight(64) };
                let mut cases = shape.all(&["blocking-classic", "tokio-classic", "node"]);
                // More threads make the Python server slower.
                cases.extend(shape.in_flight(8).case("python"));
                cases
            }),
            calls_in_flight(),
            payload_sizes(),
        ]);
    }
    for group in &mut groups {
        group.cases.retain(|case| full || (case.server.is_quick() && case.client.is_quick()));
    }
    groups
}

/// Returns the cases whose system calls strace counts.
pub(crate) fn counted(full: bool) -> Vec<Case> {
    let one = Shape::small(Transport::Unix, Pin::One);
    let many = one.in_flight(64);
    let mut cases = one.all(&["raw", "same-work", "raw-tokio", "blocking", "tokio"]);
    cases.extend(one.all(&["blocking-classic", "tokio-classic"]));
    cases.extend(one.all(&["zeromq", "hyper", "zlink", "capnp", "tarpc-json", "tonic", "libzmq", "nng"]));
    for name in ["blocking", "tokio", "tarpc-json", "tarpc-bincode", "capnp", "hyper", "tonic", "libzmq"] {
        cases.extend(many.renamed(name, &format!("{name}-64"), "64 in flight"));
    }
    cases.retain(|case| full || case.server.is_quick());
    cases
}

/// Returns the idle connections whose memory is looked at; the quick run has the largest number only.
pub(crate) fn idle(full: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for connections in IDLE.into_iter().filter(|connections| full || *connections == 10_000) {
        let shape = Shape::small(Transport::Unix, Pin::Free).in_flight(connections);
        for name in ["raw-tokio-idle", "tokio-idle", "blocking-idle"] {
            cases.extend(shape.renamed(name, &format!("{name}-{connections}"), &format!("{connections}")));
        }
    }
    cases
}

/// How a system is used: a case without a system.
#[derive(Clone, Copy)]
struct Shape {
    transport: Transport,
    in_flight: usize,
    payload: &'static str,
    pin: Pin,
    beside: Beside,
    millis: u64,
    warm: u64,
}

impl Shape {
    fn small(transport: Transport, pin: Pin) -> Self {
        let beside = Beside::Nothing;
        Self { transport, in_flight: 1, payload: "small", pin, beside, millis: 200, warm: 1000 }
    }

    fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, warm: self.warm.max(50 * in_flight as u64), ..self }
    }

    fn large(self, payload: &'static str, millis: u64, warm: u64) -> Self {
        Self { payload, millis, warm, ..self }
    }

    /// Returns a row with the system's own name; none if there is no such system.
    fn case(self, system: &str) -> Option<Case> {
        self.pair(system, system, system, systems::named(system)?.label)
    }

    /// Returns the rows of several systems.
    fn all(self, names: &[&str]) -> Vec<Case> {
        names.iter().filter_map(|name| self.case(name)).collect()
    }

    fn renamed(self, system: &str, name: &str, remark: &str) -> Option<Case> {
        let label = systems::named(system)?.label;
        self.pair(system, system, name, &format!("{label}, {remark}"))
    }

    fn pair(self, server: &str, client: &str, name: &str, label: &str) -> Option<Case> {
        let Self { transport, in_flight, payload, pin, beside, millis, warm } = self;
        Some(Case {
            name: name.to_string(),
            label: label.to_string(),
            server: systems::named(server)?,
            client: systems::named(client)?,
            transport,
            in_flight,
            payload,
            pin,
            beside,
            millis,
            warm,
        })
    }
}

fn group(name: &'static str, title: &'static str, cases: Vec<Case>) -> Group {
    Group { name, title, rounds: ROUNDS, cases }
}

fn one_in_flight(name: &'static str, title: &'static str, transport: Transport) -> Group {
    let mut systems = vec!["raw", "same-work", "raw-tokio", "blocking", "tokio"];
    systems.extend(TEXTS);
    systems.extend(["zeromq", "hyper", "capnp", "tarpc-json", "tarpc-bincode", "tonic", "libzmq", "nng"]);
    systems.extend(RAW);
    match transport {
        Transport::Unix => systems.push("zlink"),
        Transport::Tcp => systems.extend(["nats", "jsonrpsee-ws", "jsonrpsee-http"]),
    }
    group(name, title, Shape::small(transport, Pin::One).all(&systems))
}

fn many_in_flight(name: &'static str, title: &'static str, pin: Pin) -> Group {
    let unix = Shape::small(Transport::Unix, pin).in_flight(64);
    // Left to itself the system now and then keeps these two on one core, where they are five times as fast.
    let apart = if pin == Pin::Free { Pin::Two } else { pin };
    let mut cases = Shape { pin: apart, ..unix }.all(&["raw-pipelined"]);
    cases.extend(unix.all(&["raw", "same-work", "raw-tokio", "blocking", "tokio"]));
    cases.extend(unix.all(&TEXTS));
    cases.extend(unix.all(&["blocking-classic"]));
    cases.extend(unix.all(&["tokio-classic", "tarpc-json", "tarpc-bincode", "libzmq", "capnp", "hyper"]));
    cases.extend(unix.all(&["tonic", "zeromq", "zlink", "nng"]));
    cases.extend(unix.all(&RAW));
    let tcp = Shape { transport: Transport::Tcp, ..unix };
    cases.extend(tcp.renamed("tokio", "tokio-tcp", "TCP"));
    cases.extend(tcp.renamed("nats", "nats", "TCP"));
    cases.extend(tcp.renamed("jsonrpsee-ws", "jsonrpsee-ws", "TCP"));
    group(name, title, cases)
}

/// Returns the echoes of large payloads. They are unpinned: on one core both sides take turns at once and the size of
/// the buffers hardly matters.
fn bulk() -> Group {
    let one = Shape::small(Transport::Unix, Pin::Free).large("1m", 300, 30);
    let mut cases = one.all(&["raw-bulk", "raw-bulk-tuned", "same-work-bulk", "blocking", "tokio"]);
    cases.extend(one.all(&["blocking-value", "tokio-value"]));
    // A large one before, so that only the session is new, not the memory of the process.
    cases.extend(one.case("blocking-first"));
    cases.extend(one.all(&[
        "nng",
        "capnp",
        "tarpc-bincode",
        "zlink",
        "tarpc-json",
        "tarpc-json-raw",
        "zeromq",
    ]));
    cases.extend(one.all(&["hyper", "tonic", "libzmq", "python"]));
    let sixteen = one.large("16m", 500, 3);
    for name in ["raw-bulk", "blocking", "tokio"] {
        cases.extend(sixteen.renamed(name, &format!("{name}-16m"), "16 MiB"));
    }
    group("bulk", "An echo of 1 MiB (or as named), Unix socket, both cores", cases)
}

fn beside() -> Group {
    let small = Shape { millis: 400, ..Shape::small(Transport::Unix, Pin::Free) };
    let loaded = Shape { beside: Beside::Bulk, ..small };
    let mut cases = Vec::new();
    for name in ["blocking", "tokio"] {
        cases.extend(small.renamed(name, name, "nothing beside"));
        cases.extend(loaded.renamed(name, &format!("{name}-loaded"), "16 MiB on another connection"));
        let same = format!("{name}-beside");
        cases.extend(small.renamed(&same, &same, "16 MiB"));
    }
    group("beside", "Small calls beside transfers of 16 MiB, Unix socket, both cores", cases)
}

fn peers(name: &'static str, title: &'static str) -> Group {
    // Node becomes faster for some thousand calls.
    let shape = Shape { warm: 5000, ..Shape::small(Transport::Unix, Pin::One) };
    let mut cases = shape.all(&["blocking-classic", "tokio-classic", "python", "node"]);
    for (server, client) in [
        ("python", "blocking-classic"),
        ("node", "blocking-classic"),
        ("blocking-classic", "python"),
        ("blocking-classic", "node"),
    ] {
        let label = |name| systems::named(name).map_or(name, |system| system.label);
        let label = format!("{} calls {}", label(client), label(server));
        cases.extend(shape.pair(server, client, &format!("{client}-to-{server}"), &label));
    }
    group(name, title, cases)
}

/// Systems of the drawing of throughput.
pub(crate) const DRAWN_IN_FLIGHT: [&str; 8] =
    ["tokio", "blocking", "tokio-classic", "libzmq", "tarpc-bincode", "tarpc-json", "hyper", "capnp"];

fn calls_in_flight() -> Group {
    let shape = Shape { millis: 200, ..Shape::small(Transport::Unix, Pin::One) };
    let cases = DRAWN_IN_FLIGHT.iter().flat_map(|name| {
        IN_FLIGHT.iter().filter_map(move |n| {
            shape.in_flight(*n).renamed(name, &format!("{name}-{n}"), &format!("{n} in flight"))
        })
    });
    let title = "Throughput by calls in flight, Unix socket, one core";
    Group { rounds: ROUNDS_DRAWN, ..group("calls-in-flight", title, cases.collect()) }
}

/// Systems of the drawing of payloads.
pub(crate) const DRAWN_SIZES: [&str; 8] =
    ["raw-bulk", "blocking", "tokio", "tokio-value", "nng", "tarpc-bincode", "tarpc-json", "hyper"];

fn payload_sizes() -> Group {
    let shape = Shape::small(Transport::Unix, Pin::One);
    let cases = DRAWN_SIZES.iter().flat_map(|name| {
        SIZES.iter().filter_map(move |(size, bytes)| {
            let (millis, warm) = if *bytes < 1 << 20 { (150, 200) } else { (300, 3) };
            shape.large(size, millis, warm).renamed(name, &format!("{name}-{size}"), &format!("{size} bytes"))
        })
    });
    let title = "Cost of a call by the size of its payload, Unix socket, one core";
    Group { rounds: ROUNDS_DRAWN, ..group("payload-sizes", title, cases.collect()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        for group in groups(true) {
            let names: HashSet<_> = group.cases.iter().map(|case| case.name.as_str()).collect();
            assert_eq!(names.len(), group.cases.len(), "{}", group.name);
        }
    }

    #[test]
    fn the_quick_plan_needs_limits_and_ours_only() {
        for group in groups(false) {
            assert!(!group.cases.is_empty(), "{}", group.name);
            for case in group.cases {
                assert!(case.server.is_quick() && case.client.is_quick(), "{}", case.name);
            }
        }
    }
}

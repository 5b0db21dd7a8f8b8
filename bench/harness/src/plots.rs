//! The drawings of the page: latency by system, throughput by calls in flight, cost by size, memory by connections.

use crate::format::short;
use crate::plan::{DRAWN_IN_FLIGHT, DRAWN_SIZES, IDLE, IN_FLIGHT, SIZES};
use crate::results::{GroupResult, Results};
use crate::svg::{Axis, Bar, Line, Whose, bars, lines, ticks};
use crate::systems::{self, Program};

/// The files and what they show.
pub(crate) const TITLES: [(&str, &str); 4] = [
    ("latency.svg", "Latency of one call by system"),
    ("throughput.svg", "Throughput by calls in flight"),
    ("payload.svg", "Cost of a call by the size of its payload"),
    ("memory.svg", "Memory of idle connections"),
];

/// Returns the drawings for which there are figures, with the names of their files.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let [(latency_file, _), (throughput_file, _), (payload_file, _), (memory_file, _)] = TITLES;
    [
        (latency_file, latency(results)),
        (throughput_file, throughput(results)),
        (payload_file, payload(results)),
        (memory_file, memory(results)),
    ]
    .into_iter()
    .filter_map(|(name, drawing)| Some((name, drawing?)))
    .collect()
}

fn latency(results: &Results) -> Option<String> {
    let panel = |group: &GroupResult, name: &str| {
        let bar = |case: &crate::results::CaseResult| {
            Some(Bar {
                label: case.label.clone(),
                value: case.median("p50_us")?,
                mark: case.median("p99_us"),
                whose: whose(&case.name),
            })
        };
        let mut bars: Vec<Bar> = group.cases.iter().filter_map(bar).collect();
        bars.sort_by(|one, other| one.value.total_cmp(&other.value));
        (name.to_string(), bars)
    };
    let panels =
        [panel(results.group("latency-unix")?, "Unix socket"), panel(results.group("latency-tcp")?, "TCP")];
    let under = "microseconds, median / 99th percentile; one small call in flight, both sides on one core; shorter is better";
    Some(bars(TITLES[0].1, under, &panels))
}

fn throughput(results: &Results) -> Option<String> {
    let group = results.group("calls-in-flight")?;
    let drawn = drawn(group, &DRAWN_IN_FLIGHT, &IN_FLIGHT.map(|n| (n.to_string(), n as f64)), "per_second");
    let across = Axis {
        title: "calls in flight".to_string(),
        ticks: IN_FLIGHT.iter().map(|n| (*n as f64, n.to_string())).collect(),
    };
    let figures = drawn.iter().flat_map(|line| line.points.iter().map(|(_, rate)| *rate));
    let up = Axis { title: "calls per second".to_string(), ticks: ticks(figures, short) };
    let under =
        "small calls, Unix socket, both processes on one core; higher is better; both axes logarithmic";
    Some(lines(TITLES[1].1, under, &across, &up, &drawn))
}

fn payload(results: &Results) -> Option<String> {
    let group = results.group("payload-sizes")?;
    let drawn =
        drawn(group, &DRAWN_SIZES, &SIZES.map(|(name, bytes)| (name.to_string(), bytes as f64)), "p50_us");
    let size = |bytes: usize| match bytes {
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        1024.. => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    };
    let across = Axis {
        title: "payload, there and back".to_string(),
        ticks: SIZES.iter().map(|(_, bytes)| (*bytes as f64, size(*bytes))).collect(),
    };
    let figures = drawn.iter().flat_map(|line| line.points.iter().map(|(_, time)| *time));
    let up = Axis { title: "microseconds per call, median".to_string(), ticks: ticks(figures, short) };
    let under = "an echo of a string, Unix socket, both processes on one core; lower is better; both axes logarithmic";
    Some(lines(TITLES[2].1, under, &across, &up, &drawn))
}

fn memory(results: &Results) -> Option<String> {
    let group = results.group("memory")?;
    let connections: Vec<(String, f64)> = IDLE.iter().map(|n| (n.to_string(), *n as f64)).collect();
    let drawn: Vec<Line> =
        drawn(group, &["raw-tokio-idle", "tokio-idle", "blocking-idle"], &connections, "server_bytes_each");
    let across = Axis {
        title: "idle connections".to_string(),
        ticks: connections.iter().map(|(_, n)| (*n, short(*n))).collect(),
    };
    let figures = drawn.iter().flat_map(|line| line.points.iter().map(|(_, bytes)| *bytes));
    let up =
        Axis { title: "resident bytes of the server for each".to_string(), ticks: ticks(figures, short) };
    let under =
        "sessions that have had one call and are quiet, Unix socket; lower is better; both axes logarithmic";
    Some(lines(TITLES[3].1, under, &across, &up, &drawn))
}

/// Returns a line for each system; its cases are called `SYSTEM-STEP`.
fn drawn(group: &GroupResult, systems: &[&str], steps: &[(String, f64)], metric: &str) -> Vec<Line> {
    let line = |name: &&str| {
        let points: Vec<(f64, f64)> = steps
            .iter()
            .filter_map(|(step, at)| {
                let figure = group.case(&format!("{name}-{step}"))?.median(metric)?;
                (figure > 0.0).then_some((*at, figure))
            })
            .collect();
        let label = systems::named(name).map_or(*name, |system| system.label).to_string();
        (!points.is_empty()).then(|| Line { label, points, whose: whose(name) })
    };
    systems.iter().filter_map(line).collect()
}

fn whose(name: &str) -> Whose {
    match systems::named(name).map(|system| system.program) {
        Some(Program::Limits) => Whose::Limit,
        Some(Program::Ours) => Whose::Ours,
        _ => Whose::Neighbour,
    }
}

//! `procbridge stats`: prints a server's counters, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::args::stats::StatsArgs;
use crate::args::target::Target;
use crate::client::builtin;
use crate::error::CliError;
use crate::json::layout::{Layout, lay_out};
use crate::terminal::stdout;
use crate::text::duration::format_duration;
use crate::text::unprintable::escape_message;

/// The part of the answer of `$/stats` that the table shows. A server may leave members out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    uptime_ms: u64,
    connections: OpenAndTotal,
    sessions: OpenAndTotal,
    bytes: Bytes,
    methods: BTreeMap<String, Method>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OpenAndTotal {
    open: u64,
    total: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bytes {
    r#in: u64,
    out: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Method {
    calls: u64,
    errors: u64,
    in_flight: u64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    max_us: u64,
}

/// Prints the counters.
pub(crate) fn run(args: &StatsArgs) -> Result<(), CliError> {
    let endpoint = Target::endpoint(args.builtin.endpoint.as_ref())?;
    let reply = builtin::call(&args.builtin, endpoint, "$/stats", "methods")?;
    if args.builtin.json {
        return stdout::write_envelope(reply.envelope(reply.payload.get()), 0);
    }
    if stdout::is_terminal()
        && let Ok(counters) = serde_json::from_str::<Counters>(reply.payload.get())
    {
        return stdout::write(&table(&counters));
    }
    stdout::write_line(lay_out(reply.payload.get(), Layout::Compact))
}

/// Formats the counters as a table.
fn table(counters: &Counters) -> String {
    let Counters { uptime_ms, connections, sessions, bytes, methods } = counters;
    let mut text = format!(
        "up           {}\nconnections  {} open, {} in all\nsessions     {} open, {} in all\n\
         bytes        {} in, {} out\n\n",
        uptime(*uptime_ms / 1000),
        connections.open,
        connections.total,
        sessions.open,
        sessions.total,
        bytes.r#in,
        bytes.out
    );
    let head = ["METHOD", "CALLS", "ERRORS", "RUNNING", "P50", "P90", "P99", "MAX"].map(str::to_string);
    let rows = methods.iter().map(|(name, method)| {
        let time = |micros| match method.calls > method.in_flight {
            true => format_duration(Duration::from_micros(micros)),
            false => "-".to_string(),
        };
        let Method { calls, errors, in_flight, p50_us, p90_us, p99_us, max_us } = method;
        let counts = [calls, errors, in_flight].map(u64::to_string);
        let [p50, p90, p99, max] = [p50_us, p90_us, p99_us, max_us].map(|micros| time(*micros));
        let [calls, errors, in_flight] = counts;
        [escape_message(name), calls, errors, in_flight, p50, p90, p99, max]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Names are aligned left, numbers right.
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Formats an uptime with its two largest units: `3d 4h`, `4h 7m`, `7m 12s`, `12s`.
fn uptime(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let parts = units.map(|(unit, length)| {
        let count = rest / length;
        rest %= length;
        (count, unit)
    });
    let parts = parts.iter().skip_while(|(count, unit)| *count == 0 && *unit != "s").take(2);
    parts.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_method() {
        let counted = r#"{"uptime_ms":3723000,"connections":{"open":1,"total":2},"sessions":{"open":0,"total":1},
            "bytes":{"in":10,"out":20},"more":1,"methods":{"sum":{"calls":3,"errors":1,"in_flight":0,"p50_us":12,
            "p90_us":1500,"p99_us":1500,"max_us":2000000},"$/other":{"calls":0}}}"#;
        let expected = "up           1h 2m\nconnections  1 open, 2 in all\nsessions     0 open, 1 in all\n\
            bytes        10 in, 20 out\n\n\
            METHOD   CALLS  ERRORS  RUNNING      P50      P90      P99     MAX\n\
            $/other      0       0        0        -        -        -       -\n\
            sum          3       1        0  12.0 us  1.50 ms  1.50 ms  2.00 s\n";
        assert_eq!(table(&serde_json::from_str(counted).unwrap()), expected);
    }

    #[test]
    fn a_time_has_two_units_at_most() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3723, "1h 2m"), (90_061, "1d 1h")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}

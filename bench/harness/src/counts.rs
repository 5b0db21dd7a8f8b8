//! System calls per call, counted by strace. They do not vary, so each is counted once.
//!
//! Two runs with different numbers of calls are counted, and the difference is divided by the difference: what start,
//! connection and end cost drops out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::{Case, Place, arguments};
use crate::child::Child;
use crate::results::{GroupResult, Sample};

/// How many calls the two runs make for each in flight. Neighbours with many in flight make fewer: strace makes each
/// system call some hundred times as dear.
const LONG: [u64; 2] = [200, 1200];
const SHORT: [u64; 2] = [50, 200];

/// Counts each case once.
pub(crate) fn measure(cases: &[Case], place: &Place, faults: &mut Vec<String>) -> GroupResult {
    eprintln!("system-calls");
    let mut group = GroupResult::new("system-calls", "System calls per call, Unix socket, one core");
    for case in cases {
        group.add_result((&case.name, &case.label), count(case, place), faults);
    }
    group
}

/// Counts the system calls of client and server for one call.
fn count(case: &Case, place: &Place) -> Result<Sample, String> {
    let in_flight = case.in_flight as u64;
    let [few, many] =
        if in_flight == 1 || case.server.is_quick() { LONG } else { SHORT }.map(|calls| calls * in_flight);
    let calls = (many - few) as f64;
    let few = run(case, place, few)?;
    let many = run(case, place, many)?;
    let per_call = |few: u64, many: u64| many.saturating_sub(few) as f64 / calls;
    let (client, server) = (per_call(few.0, many.0), per_call(few.1, many.1));
    Ok(Sample::from([
        ("client_syscalls".to_string(), client),
        ("server_syscalls".to_string(), server),
        ("syscalls".to_string(), client + server),
    ]))
}

/// Counts the system calls of a whole run: client, server.
fn run(case: &Case, place: &Place, calls: u64) -> Result<(u64, u64), String> {
    let endpoint = place.endpoint(case.transport)?;
    let (server_cores, client_cores) = case.cores();
    let (for_server, for_client) =
        (place.directory.join("server.strace"), place.directory.join("client.strace"));
    let serving = arguments(case.server.command(&place.built), "serve", case.server, &endpoint);
    let mut server = Child::start(traced(&serving, &for_server), server_cores, &place.directory)?;
    server.wait_ready()?;
    let mut calling = arguments(case.client.command(&place.built), "call", case.client, &endpoint);
    calling.args(["--payload", case.payload, "--in-flight", &case.in_flight.to_string()]);
    calling.args(["--warm", &(20 * case.in_flight.max(5)).to_string(), "--calls", &calls.to_string()]);
    let mut client = Child::start(traced(&calling, &for_client), client_cores, &place.directory)?;
    client.line(Duration::from_secs(60))?;
    client.end();
    server.end();
    Ok((total(&for_client)?, total(&for_server)?))
}

fn traced(command: &Command, to: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-c", "-o"]).arg(to).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    traced
}

/// Returns the sum of all calls in a table that strace wrote.
fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(sum(&text))
}

fn sum(table: &str) -> u64 {
    // `% time, seconds, usecs/call, calls, [errors,] syscall`; the last line is the total.
    let rows = table.lines().filter(|line| !line.ends_with(" total"));
    rows.filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        fields.get(3)?.parse::<u64>().ok()
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn calls_are_read_from_the_table() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300           1       300           recvfrom
 40.00    0.000200           1       200         3 sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500           1       500         3 total
";
        assert_eq!(sum(table), 500);
    }
}

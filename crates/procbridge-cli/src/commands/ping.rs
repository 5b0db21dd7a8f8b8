//! `procbridge ping`: checks that a server answers, and measures its latency.

use std::time::Instant;

use procbridge::{Endpoint, Outcome};
use serde_json::value::to_raw_value;

use crate::args::ping::PingArgs;
use crate::args::target::Target;
use crate::client::connect::{Connection, config_for};
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::client::latency::Latency;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::envelope;
use crate::json::object::Object;
use crate::terminal::stdout;
use crate::text::duration::format_duration;

/// Pings a server, and prints a summary.
pub(crate) fn run(args: &PingArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    if !args.json {
        interrupt.watch_reader()?;
    }
    let endpoint = Target::endpoint(args.endpoint.as_ref())?;
    let started = Instant::now();
    // Keep the connection until the summary is printed: after a signal, closing it may take too long.
    let connection = Connection::new(&endpoint, &args.connect, config_for(args.timeout), &interrupt)?;
    let (latency, error) = send_pings(args, &endpoint, &connection, &interrupt)?;
    let pings = latency.calls() + u64::from(error.is_some());
    let summary = Summary { pings, latency: &latency };
    if !args.json && pings > 0 {
        stdout::write_line(summary.text())?;
    }
    if let Some(error) = error.or_else(|| interrupt.error()) {
        return Err(error);
    }
    let p99 = latency.quantile(0.99);
    if let Some(threshold) = args.threshold.filter(|threshold| p99 > *threshold) {
        let (p99, threshold) = (format_duration(p99), format_duration(threshold));
        let message = format!("the p99 of {p99} is over the threshold of {threshold}");
        let error = CliError::new(ExitCode::Threshold, "threshold", message);
        let error = error.with_outcome(Outcome::Replied).with_elapsed(started.elapsed());
        return Err(if args.json { error.with_data(summary.json()) } else { error });
    }
    if args.json {
        stdout::write_envelope(envelope::success(&summary.json(), started.elapsed()).finish(), 0)?;
    }
    Ok(())
}

/// Sends one ping after the other, until one fails. Returns also its error.
fn send_pings(
    args: &PingArgs,
    endpoint: &Endpoint,
    connection: &Connection,
    interrupt: &Interrupt,
) -> Result<(Latency, Option<CliError>), CliError> {
    let mut latency = Latency::start()?;
    for number in 1..=args.count {
        if number > 1 {
            interrupt.sleep(args.interval);
        }
        if interrupt.error().is_some() {
            break;
        }
        let payload = to_raw_value(&number).ok();
        let (result, elapsed) = connection.call("$/ping", payload.as_deref(), args.timeout);
        // The answer of a server without the method takes as long as any other.
        let remark = match result {
            Ok(answer) if answer.get() == number.to_string() => "",
            Ok(_) => NO_PING,
            Err(error) if hints::is_unknown_method(&error) => NO_PING,
            Err(error) => {
                return Ok((latency, Some(connection.explain(error, elapsed, Some(args.timeout)))));
            }
        };
        latency.record(elapsed);
        let time = format_duration(elapsed);
        let line = format!("answer from {endpoint}: seq={number} time={time}{remark}");
        if !args.json && !stdout::stream_line(line)? {
            break;
        }
    }
    Ok((latency, None))
}

/// The number of pings and answers, and the latency.
struct Summary<'a> {
    pings: u64,
    latency: &'a Latency,
}

impl Summary<'_> {
    fn text(&self) -> String {
        let (pings, answers) = (self.pings, self.latency.calls());
        let count = |count, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let counts = format!("{}, {}", count(pings, "ping"), count(answers, "answer"));
        if answers == 0 { counts } else { format!("{counts}: {}", self.latency.text()) }
    }

    fn json(&self) -> String {
        let object = Object::new().member("pings", self.pings);
        let object = object.member("answers", self.latency.calls());
        self.latency.members(object).finish()
    }
}

const NO_PING: &str = " (the server has no \"$/ping\")";

//! `procbridge ping`: is the server there, and how long does it take?

use std::time::Instant;

use procbridge::Endpoint;

use crate::args::ping::PingArgs;
use crate::args::target::Target;
use crate::client::connect::{ConnectOptions, Connection};
use crate::client::hints;
use crate::client::interrupt::Interrupt;
use crate::client::latency::Latency;
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::json::envelope;
use crate::json::object::Object;
use crate::terminal::stdout;
use crate::text::duration;

/// Pings, and sums up.
pub(crate) fn run(args: &PingArgs) -> Result<(), CliError> {
    let interrupt = Interrupt::listen(args.json)?;
    if !args.json {
        interrupt.watch_reader()?;
    }
    let endpoint = Target::alone(args.endpoint.as_ref())?;
    let began = Instant::now();
    // It is held until the sum is told: its end may take longer than a signal leaves.
    let connection =
        Connection::new(&endpoint, &args.connect, ConnectOptions::with_timeout(args.timeout), &interrupt)?;
    let (latency, failed) = pings(args, &endpoint, &connection, &interrupt)?;
    let asked = latency.calls() + u64::from(failed.is_some());
    let summary = Summary { asked, latency: &latency };
    if !args.json && asked > 0 {
        stdout::write_line(summary.text())?;
    }
    if let Some(failure) = failed.or_else(|| interrupt.error()) {
        return Err(failure);
    }
    let p99 = latency.quantile(0.99);
    let json = Summary { asked, latency: &latency }.json();
    if let Some(threshold) = args.threshold.filter(|threshold| p99 > *threshold) {
        let (p99, threshold) = (duration::format_duration(p99), duration::format_duration(threshold));
        let message = format!("the p99 of {p99} is over the threshold of {threshold}");
        let failure = CliError::new(ExitCode::Threshold, "threshold", message);
        let failure = failure.with_outcome(procbridge::Outcome::Replied).with_elapsed(began.elapsed());
        return Err(if args.json { failure.with_data(json) } else { failure });
    }
    if args.json {
        stdout::write_envelope(envelope::success(&json, began.elapsed()).finish(), 0)
    } else {
        Ok(())
    }
}

/// Pings one after the other, until one fails.
fn pings(
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
        let sent = serde_json::value::to_raw_value(&number).ok();
        let asked = connection.ask(PING, sent.as_deref(), args.timeout);
        let (elapsed, is_late) = (asked.elapsed, asked.is_late());
        // A classic server has no such method, and its answer takes as long as any other.
        let remark = match asked.result {
            Ok(answer) if answer.get() == number.to_string() => "",
            Ok(_) => LACKING,
            Err(error) if hints::is_unknown_method(&error) => LACKING,
            Err(error) => {
                let failure = connection.error(error, is_late).with_elapsed(elapsed);
                return Ok((latency, Some(failure)));
            }
        };
        latency.record(elapsed);
        let time = duration::format_duration(elapsed);
        let line = format!("answer from {endpoint}: seq={number} time={time}{remark}");
        if !args.json && !stdout::stream_line(line)? {
            break;
        }
    }
    Ok((latency, None))
}

/// How the pings went.
struct Summary<'a> {
    asked: u64,
    latency: &'a Latency,
}

impl Summary<'_> {
    fn text(&self) -> String {
        let (asked, answers) = (self.asked, self.latency.calls());
        let words = |count, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let counts = format!("{}, {}", words(asked, "ping"), words(answers, "answer"));
        if answers == 0 { counts } else { format!("{counts}: {}", self.latency.text()) }
    }

    fn json(&self) -> String {
        let object = Object::new().member("pings", &self.asked.to_string());
        let object = object.member("answers", &self.latency.calls().to_string());
        self.latency.members(object).finish()
    }
}

const PING: &str = "$/ping";
const LACKING: &str = " (it has no \"$/ping\")";

//! The command line of a contender program, the same for all.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::report::memory;
use crate::{Endpoint, Payload, Report, Result, Run};

/// One system under measurement.
#[derive(Clone, Copy)]
pub struct Contender {
    /// Its name on the command line and in the tables.
    pub name: &'static str,
    /// Listens, calls [`ready`], and serves without end. The process ends when its standard input closes.
    pub serve: fn(&Endpoint) -> Result<()>,
    /// Calls, by one of the loops of [`Run`].
    pub call: fn(&Run) -> Result<Report>,
}

/// Says that the server listens.
pub fn ready() {
    let mut out = std::io::stdout().lock();
    // The write fails if no process reads. Then no process waits for it either.
    let _ = out.write_all(b"ready\n").and_then(|()| out.flush());
}

/// Does what the command line says with one of `contenders`.
pub fn main(contenders: &[Contender]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match act(contenders, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn act(contenders: &[Contender], arguments: &[String]) -> Result<()> {
    let [verb, name, endpoint, options @ ..] = arguments else {
        let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
        return Err(format!(
            "usage: serve|call CONTENDER ENDPOINT [OPTIONS]; contenders: {}",
            names.join(" ")
        )
        .into());
    };
    let contender = contenders
        .iter()
        .find(|contender| contender.name == name.as_str())
        .ok_or_else(|| format!("no contender has the name {name:?}"))?;
    let endpoint: Endpoint = endpoint.parse()?;
    match verb.as_str() {
        "serve" => {
            end_with_standard_input();
            (contender.serve)(&endpoint)
        }
        "call" => {
            let run = run(endpoint, options)?;
            let start = memory("self", "VmRSS");
            let mut report = (contender.call)(&run)?;
            report.put("start_kib", start);
            println!("{report}");
            Ok(())
        }
        other => Err(format!("{other:?} is neither \"serve\" nor \"call\"").into()),
    }
}

fn run(endpoint: Endpoint, options: &[String]) -> Result<Run> {
    let mut run = Run {
        endpoint,
        in_flight: 1,
        payload: Payload::Small,
        time: Duration::from_secs(1),
        warm: 1000,
        calls: None,
        server: None,
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--in-flight" => run.in_flight = value.parse()?,
            "--payload" => run.payload = value.parse()?,
            "--millis" => run.time = Duration::from_millis(value.parse()?),
            "--warm" => run.warm = value.parse()?,
            "--calls" => run.calls = Some(value.parse()?),
            "--server" => run.server = Some(value.parse()?),
            other => return Err(format!("{other:?} is not an option").into()),
        }
    }
    Ok(run)
}

/// Ends the process when its standard input closes, so that a harness that dies takes its servers with it.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while matches!(std::io::stdin().read(&mut rest), Ok(1..)) {}
        std::process::exit(0);
    });
}

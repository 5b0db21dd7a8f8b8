//! Hostile and unlucky peers, from outside: bytes by hand at servers in processes of their own, while honest clients make
//! calls. Each scenario has figures during and after the attack, and a bound for each.
//!
//! Nothing here uses the library: what it gets wrong must not be its own witness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "it stops at what must not be; what a server does is never that"
)]

mod clients;
mod connection;
mod field;
mod honest;
mod hostile;
mod options;
mod packet;
mod process;
mod report;
mod run;
mod scenario;
mod scenarios;
mod server;
mod statistics;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::options::{Options, USAGE};
use crate::report::{complain, say};
use crate::scenario::Scenario;
use crate::server::Target;
use crate::verdict::{Breach, Measured};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [tied, files, program, rest @ ..] = arguments.as_slice()
        && tied == "tied"
    {
        return server::become_tied(files, program, rest);
    }
    if let [name, rest @ ..] = arguments.as_slice()
        && name == clients::NAME
    {
        return clients::become_clients(rest);
    }
    let scenarios = scenarios::all();
    let options = match Options::read(&arguments, &scenarios) {
        Ok(options) => options,
        Err(wrong) => {
            complain(&format!("{wrong}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    if options.help {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    if options.list {
        for scenario in &scenarios {
            let short = if scenario.is_short { "" } else { ", not in the short form" };
            say(&format!("{:32} {} ({}{short})", scenario.name, scenario.about, scenario.faults));
        }
        return ExitCode::SUCCESS;
    }
    if let Err(missing) = prepare() {
        complain(&missing);
        return ExitCode::FAILURE;
    }
    let watchdog = Watchdog::begin();
    let (mut passed, mut failed, mut rows) = (0, Vec::new(), Vec::new());
    for scenario in &scenarios {
        for &target in scenario.targets {
            if !options.wants(scenario, target) {
                continue;
            }
            watchdog.feed();
            match judged(scenario, target, options.is_short, &watchdog) {
                Ok((measured, breaches)) => {
                    say(&report::line(scenario, target, &measured, &breaches));
                    rows.push(report::row(scenario, target, &measured, &breaches));
                    if breaches.is_empty() {
                        passed += 1;
                    } else {
                        failed.push(format!("{} {target}", scenario.name));
                    }
                }
                Err(error) => {
                    say(&format!("{} {target}: FAILED the server has ended: {error}", scenario.name));
                    failed.push(format!("{} {target}", scenario.name));
                }
            }
        }
    }
    if options.table {
        say(report::TABLE);
        rows.iter().for_each(|row| say(row));
    }
    if !failed.is_empty() {
        say(&format!("failed: {}", failed.join(", ")));
    }
    say(&format!("{passed} passed, {} failed", failed.len()));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a scenario, and once more if all that failed are figures of time: other programs may have had the processors.
fn judged(
    scenario: &Scenario,
    target: Target,
    is_short: bool,
    watchdog: &Watchdog,
) -> std::io::Result<(Measured, Vec<Breach>)> {
    let mut attempts = if is_short { SHORT_ATTEMPTS } else { ATTEMPTS };
    loop {
        let measured = run::run(scenario, target, is_short)?;
        let breaches = measured.breaches(scenario, target);
        attempts -= 1;
        if attempts == 0 || breaches.is_empty() || breaches.iter().any(|breach| !breach.is_of_time) {
            return Ok((measured, breaches));
        }
        watchdog.feed();
    }
}

/// How often a scenario is measured before a figure of time counts as one that breaks its bound. The short form runs beside
/// whatever else a machine does.
const ATTEMPTS: u32 = 2;
const SHORT_ATTEMPTS: u32 = 4;

/// Makes ready: descriptors for both sides, the programs, and an end for interrupted runs.
fn prepare() -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .map_err(|error| error.to_string())?;
    for program in [server::peer(), server::procbridge()] {
        if !program.exists() {
            return Err(
                "abuse-peer or procbridge is missing beside this program: run scripts/abuse".to_string()
            );
        }
    }
    // Servers are killed by the system when this process ends; the directories of their sockets are left then.
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ])
    .map_err(|error| error.to_string())?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            server::forget_all();
            complain("interrupted");
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends the process when a scenario takes longer than any may.
#[derive(Debug)]
struct Watchdog {
    started: Instant,
    fed: Arc<AtomicU64>,
}

impl Watchdog {
    fn begin() -> Self {
        let (started, fed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let seen = fed.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                if started.elapsed().as_secs() > seen.load(Ordering::Relaxed) + LONGEST {
                    complain("a scenario does not end");
                    server::forget_all();
                    std::process::exit(1);
                }
            }
        });
        Self { started, fed }
    }

    fn feed(&self) {
        self.fed.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }
}

/// Seconds that one run may take: the longest attack is a minute.
const LONGEST: u64 = 150;

//! Measures ProcBridge beside the raw limits and its neighbours. `scripts/bench` builds everything and starts this.

mod case;
mod check;
mod child;
mod command;
mod counts;
mod format;
mod goals;
mod instructions;
mod machine;
mod memory;
mod options;
mod page;
mod plan;
mod plots;
mod results;
mod rounds;
mod split;
mod start;
mod statistics;
mod svg;
mod systems;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "hog") {
        return child::hog();
    }
    match options::Options::read(&arguments) {
        Ok(options) => command::act(&options),
        Err(message) => {
            eprintln!("bench: {message}\nscripts/bench --help tells what there is");
            ExitCode::from(2)
        }
    }
}

//! The command line of ProcBridge.
//!
//! `args` says what can be asked for, one file for each subcommand does it. A subcommand returns a [`CliError`] or has
//! printed its data; what is printed where, and which exit code there is, is decided in `output` and `failure`.

mod args;
mod capture;
mod client;
mod commands;
mod dissect;
mod env;
mod error;
mod exit_code;
mod input;
mod json;
mod serve;
mod terminal;
mod text;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::command_line::{Command, CommandLine};
use crate::args::preprocess::preprocess;
use crate::commands::{
    call, completions, decode, describe, emit, info, list, man, ping, serve as serving, stats, watch,
};
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::serve::guard_process;
use crate::terminal::{label, stderr, stdout};

/// The allocator: see docs/decisions/0025.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    if let Some(server) = guard_process::server_name() {
        guard_process::run(&server);
        return std::process::ExitCode::SUCCESS;
    }
    let exit = run();
    stderr::flush();
    exit.into()
}

/// Returns the exit code.
fn run() -> u8 {
    let words = match preprocess(std::env::args_os()) {
        Ok(words) => words,
        Err(failure) => return report(&failure, wants_json()),
    };
    let arguments = match CommandLine::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return not_parsed(&error),
    };
    let (done, json) = match &arguments.command {
        Command::Call(args) => (call::run(args).map(|()| 0), args.output.json),
        Command::Watch(args) => (watch::run(args).map(|()| 0), args.json),
        Command::Emit(args) => (emit::run(args).map(|()| 0), args.output.json),
        Command::Ping(args) => (ping::run(args).map(|()| 0), args.json),
        Command::Info(args) => (info::run(args).map(|()| 0), args.builtin.json),
        Command::List(args) => (list::list(args).map(|()| 0), args.builtin.json),
        Command::Describe(args) => (describe::describe(args).map(|()| 0), args.builtin.json),
        Command::Stats(args) => (stats::run(args).map(|()| 0), args.builtin.json),
        Command::Serve(args) => (serving::run(args), false),
        Command::Decode(args) => (decode::run(args).map(|()| 0), args.json),
        Command::Completions(args) => (completions::run(args).map(|()| 0), false),
        Command::Man(args) => (man::run(args).map(|()| 0), false),
    };
    match done {
        Ok(exit) => exit,
        Err(failure) => report(&failure, json),
    }
}

/// Help and version are asked for; everything else is a mistake.
fn not_parsed(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let has_colours = stdout::is_terminal() && label::wants_colours();
            let text = if has_colours { text.ansi().to_string() } else { text.to_string() };
            stdout::write_unescaped(&text).map_or_else(|failure| report(&failure, false), |()| 0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            stderr::enqueue(error.render().to_string().trim_end().to_string());
            ExitCode::Usage as u8
        }
        _ => report(&CliError::from(error), wants_json()),
    }
}

/// Whether a program asked for the envelope. It gets that also where the parser did not come that far.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

fn report(failure: &CliError, json: bool) -> u8 {
    if !json {
        failure.print();
    } else if let Err(unwritten) = stdout::write_envelope(failure.envelope(), failure.exit()) {
        unwritten.print();
    }
    failure.exit()
}

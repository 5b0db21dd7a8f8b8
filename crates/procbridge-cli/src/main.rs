//! The command line of ProcBridge.
//!
//! `main` parses the command line, runs its command, and reports the error that the command returns. The files form layers,
//! and a file uses layers below its own, or files of its own layer without a circle:
//!
//! `main -> commands -> {client, serve} -> {capture, input} -> {args, dissect} -> env -> {system, terminal} -> error ->
//! {exit_code, json} -> text`

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
mod system;
mod terminal;
mod text;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::command_line::{Command, CommandLine};
use crate::args::preprocess::preprocess;
use crate::commands::{call, completions, decode, describe, emit, info, list, man, ping, stats, watch};
use crate::error::CliError;
use crate::exit_code::ExitCode;
use crate::serve::guard_process;
use crate::terminal::{label, stderr, stdout};

/// The allocator, chosen in docs/decisions/0025.
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

/// Runs the command of this process. Returns its exit code.
fn run() -> u8 {
    let words = match preprocess(std::env::args_os()) {
        Ok(words) => words,
        Err(error) => return report(&error, wants_json()),
    };
    let command = match CommandLine::try_parse_from(words) {
        Ok(command_line) => command_line.command,
        Err(error) => return report_unparsed(&error),
    };
    let (result, json) = match &command {
        Command::Call(args) => (call::run(args), args.output.json),
        Command::Watch(args) => (watch::run(args), args.json),
        Command::Emit(args) => (emit::run(args), args.output.json),
        Command::Ping(args) => (ping::run(args), args.json),
        Command::Info(args) => (info::run(args), args.builtin.json),
        Command::List(args) => (list::run(args), args.builtin.json),
        Command::Describe(args) => (describe::run(args), args.builtin.json),
        Command::Stats(args) => (stats::run(args), args.builtin.json),
        Command::Serve(args) => match commands::serve::run(args) {
            Ok(exit) => return exit,
            Err(error) => (Err(error), false),
        },
        Command::Decode(args) => (decode::run(args), args.json),
        Command::Completions(args) => (completions::run(args), false),
        Command::Man(args) => (man::run(args), false),
    };
    result.map_or_else(|error| report(&error, json), |()| 0)
}

/// Prints help or the version, or reports a usage error. Returns the exit code.
fn report_unparsed(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let has_colours = stdout::is_terminal() && label::wants_colours();
            let text = if has_colours { text.ansi().to_string() } else { text.to_string() };
            stdout::write_unescaped(&text).map_or_else(|error| report(&error, false), |()| 0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            stderr::write_unescaped(error.render().to_string().trim_end().to_string());
            ExitCode::Usage as u8
        }
        _ => report(&CliError::from(error), wants_json()),
    }
}

/// Whether the command line has `--json`, where the parser has not come that far.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// Reports `error` to a person, or with `json` as the envelope. Returns its exit code.
fn report(error: &CliError, json: bool) -> u8 {
    if !json {
        print(error);
    } else if let Err(unwritten) = stdout::write_envelope(error.envelope(), error.exit()) {
        print(&unwritten);
    }
    error.exit()
}

fn print(error: &CliError) {
    if let Some(message) = error.message() {
        stderr::report("error", message, error.details());
    }
}

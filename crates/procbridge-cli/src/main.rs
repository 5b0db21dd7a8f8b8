//! The command line of ProcBridge.
//!
//! `args` says what can be asked for, one file for each subcommand does it. A subcommand returns a [`Failure`] or has
//! printed its data; what is printed where, and which exit code there is, is decided in `output` and `failure`.

mod advice;
mod args;
mod call;
mod completions;
mod decode;
mod default_endpoint;
mod demo;
mod describe;
mod emit;
mod exec;
mod failure;
mod frames;
mod hex;
mod info;
mod interrupt;
mod job;
mod json_text;
mod latency;
mod logger;
mod man;
mod nearby;
mod output;
mod packet_words;
mod payload;
mod piece;
mod ping;
mod question;
mod reach;
mod result;
mod serve;
mod stats;
mod tap;
mod target;
mod token;
mod units;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Command, CommandLine};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = match CommandLine::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_parsed(&error),
    };
    let (done, json) = match &arguments.command {
        Command::Call(args) => (call::run(args).map(|()| 0), args.shape.json),
        Command::Watch(args) => (watch::run(args).map(|()| 0), args.json),
        Command::Emit(args) => (emit::run(args).map(|()| 0), args.shape.json),
        Command::Ping(args) => (ping::run(args).map(|()| 0), args.json),
        Command::Info(args) => (info::run(args).map(|()| 0), args.question.json),
        Command::List(args) => (describe::list(args).map(|()| 0), args.question.json),
        Command::Describe(args) => (describe::describe(args).map(|()| 0), args.question.json),
        Command::Stats(args) => (stats::run(args).map(|()| 0), args.question.json),
        Command::Serve(args) => (serve::run(args), false),
        Command::Decode(args) => (decode::run(args).map(|()| 0), args.json),
        Command::Completions(args) => (completions::run(args).map(|()| 0), false),
        Command::Man(args) => (man::run(args).map(|()| 0), false),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => report(&failure, json),
    }
}

/// Help and version are asked for; everything else is a mistake.
fn not_parsed(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has seen enough of it is no error.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(1).into()
        }
        // A program that asked for the envelope gets it also when the parser did not come that far.
        _ => report(&Failure::from(error), std::env::args_os().any(|argument| argument == "--json")),
    }
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    if !json {
        failure.print();
    } else if let Err(unwritten) = output::conclude(failure.envelope(), failure.exit()) {
        unwritten.print();
    }
    failure.exit().into()
}

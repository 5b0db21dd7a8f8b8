//! `procbridge completions`: scripts that let a shell complete commands and options.

use clap::CommandFactory;

use crate::args::{CommandLine, CompletionsArgs};
use crate::failure::Failure;
use crate::output;

/// Prints the script of a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "procbridge", &mut script);
    output::own(&String::from_utf8_lossy(&script))
}

//! `procbridge completions`: prints a completion script for a shell.

use clap::CommandFactory;

use crate::args::command_line::CommandLine;
use crate::args::completions::CompletionsArgs;
use crate::error::CliError;
use crate::terminal::stdout;

/// Prints the completion script for a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "procbridge", &mut script);
    stdout::write_unescaped(&String::from_utf8_lossy(&script))
}

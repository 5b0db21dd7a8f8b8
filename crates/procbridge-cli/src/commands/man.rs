//! `procbridge man`: man pages, made from the help texts.

use clap::{CommandFactory, ValueEnum};
use clap_mangen::Man;

use crate::args::command_line::CommandLine;
use crate::args::man::ManArgs;
use crate::error::CliError;
use crate::terminal::stdout;

/// Prints the page of a command, or the main page.
pub(crate) fn run(args: &ManArgs) -> Result<(), CliError> {
    let mut command = CommandLine::command();
    // Fills in the whole names of the subcommands, "procbridge-call" and the like.
    command.build();
    let name = args.command.and_then(|page| page.to_possible_value());
    let page = name.and_then(|name| command.find_subcommand(name.get_name()).cloned()).unwrap_or(command);
    let mut text = Vec::new();
    let page = Man::new(page).source(concat!("procbridge ", env!("CARGO_PKG_VERSION"))).manual("ProcBridge");
    page.render(&mut text).map_err(|error| CliError::system("cannot make the page", &error))?;
    stdout::write_unescaped(&String::from_utf8_lossy(&text))
}

//! `procbridge man`: prints man pages, which are made of the help texts.

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::command_line::CommandLine;
use crate::args::man::ManArgs;
use crate::error::CliError;
use crate::terminal::stdout;

/// Prints the page of a command, or the main page.
pub(crate) fn run(args: &ManArgs) -> Result<(), CliError> {
    let mut command = CommandLine::command();
    // Sets the full names of the subcommands, such as "procbridge-call".
    command.build();
    let page = args.command.as_ref().and_then(|name| command.find_subcommand(name).cloned());
    let page = Man::new(page.unwrap_or(command));
    let page = page.source(concat!("procbridge ", env!("CARGO_PKG_VERSION"))).manual("ProcBridge");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| CliError::system("cannot render the man page", &error))?;
    stdout::write_unescaped(&String::from_utf8_lossy(&text))
}

//! The arguments of `procbridge man`.

use clap::Args;

/// Print a man page
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ManArgs {
    /// The command whose page to print; the main page without it
    #[arg(value_parser = COMMANDS)]
    pub(crate) command: Option<String>,
}

/// The commands, all of which have a page.
const COMMANDS: [&str; 12] = [
    "call",
    "watch",
    "emit",
    "ping",
    "info",
    "list",
    "describe",
    "stats",
    "serve",
    "decode",
    "completions",
    "man",
];

const HELP: &str = "\
Examples:
  procbridge man > procbridge.1
  procbridge man call > procbridge-call.1
  procbridge man call | man -l -";

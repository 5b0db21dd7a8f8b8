//! The arguments of `procbridge man`.

use clap::{Args, ValueEnum};

/// Print a man page
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ManArgs {
    /// The command whose page it is; without it the main page
    pub(crate) command: Option<Page>,
}

/// The commands that have a page.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Page {
    Call,
    Watch,
    Emit,
    Ping,
    Info,
    List,
    Describe,
    Stats,
    Serve,
    Decode,
    Completions,
    Man,
}

const HELP: &str = "\
Examples:
  procbridge man > procbridge.1
  procbridge man call > procbridge-call.1
  procbridge man call | man -l -";

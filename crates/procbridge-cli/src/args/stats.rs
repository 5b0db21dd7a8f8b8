//! The arguments of `procbridge stats`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Show what a server has counted: calls, errors, times
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

const HELP: &str = "\
Examples:
  procbridge stats :8000
  procbridge stats /run/app.sock | jq '.methods.sum.p99_us'

On a terminal it is a table, in a pipe the answer of \"$/stats\" as one line of
JSON. Times are in microseconds there.

ExitCode codes:
  3  the server does not tell
  others as of \"procbridge call\"";

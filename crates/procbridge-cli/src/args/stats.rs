//! The arguments of `procbridge stats`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Show a server's counters: calls, errors, latencies
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

On a terminal the output is a table. In a pipe it is the answer of \"$/stats\", one
line of JSON with times in microseconds.

Exit codes:
  3  the server has no \"$/stats\"
  others as of \"procbridge call\"";

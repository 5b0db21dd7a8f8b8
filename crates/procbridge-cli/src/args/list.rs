//! The arguments of `procbridge list`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// List the methods of a server
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

const HELP: &str = "\
Examples:
  procbridge list :8000
  procbridge list /run/app.sock | grep build

On a terminal each name has what the server says of it. The names come from
\"$/describe\".

ExitCode codes:
  3  the server does not tell
  others as of \"procbridge call\"";

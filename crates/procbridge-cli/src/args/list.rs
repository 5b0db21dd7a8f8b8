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

On a terminal each name has its documentation. The names come from the method
\"$/describe\".

Exit codes:
  3  the server has no \"$/describe\"
  others as of \"procbridge call\"";

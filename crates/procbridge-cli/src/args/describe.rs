//! The arguments of `procbridge describe`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Print the description of a server's methods, or of one method
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge describe [OPTIONS] [ENDPOINT] [METHOD]")]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,

    /// The method; all methods without it
    #[arg(value_name = "METHOD", help_heading = None::<&'static str>)]
    pub(crate) method: Option<String>,

    /// Print the description on one line
    #[arg(long, help_heading = None::<&'static str>)]
    pub(crate) compact: bool,
}

const HELP: &str = "\
Examples:
  procbridge describe :8000
  procbridge describe :8000 sum
  procbridge describe :8000 --compact | jq '.methods[].name'

The description is the answer of \"$/describe\". Each method has its name, its kind
(\"method\" or \"stream\") and its documentation. JSON Schemas of the payload and of
the result, or of a stream's items, are there if the server has them.

Exit codes:
  3  the server has no \"$/describe\", or no such method
  others as of \"procbridge call\"";

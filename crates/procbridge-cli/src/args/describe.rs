//! The arguments of `procbridge describe`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Print what a server tells of its methods, or of one
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge describe [OPTIONS] [ENDPOINT] [METHOD]")]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,

    /// The method; without it all of them
    #[arg(value_name = "METHOD", help_heading = None::<&'static str>)]
    pub(crate) method: Option<String>,

    /// Print it on one line
    #[arg(long, help_heading = None::<&'static str>)]
    pub(crate) compact: bool,
}

const HELP: &str = "\
Examples:
  procbridge describe :8000
  procbridge describe :8000 sum
  procbridge describe :8000 --compact | jq '.methods[].name'

It is the answer of \"$/describe\": for each method its name, its kind (\"method\" or
\"stream\"), a line about it, and JSON Schemas of payload and result, or item of a
stream, where the server knows them.

ExitCode codes:
  3  the server does not tell, or has no such method
  others as of \"procbridge call\"";

//! The arguments for the form of a result.

use clap::Args;

/// The arguments for the form of a result.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print a result that is a string without its quotes
    #[arg(short, long)]
    pub(crate) raw: bool,

    /// Indent the result. This is the default on a terminal
    #[arg(long, conflicts_with = "compact")]
    pub(crate) pretty: bool,

    /// Print the result on one line. This is the default in a pipe
    #[arg(long)]
    pub(crate) compact: bool,

    /// Print one line of JSON for success and failure alike, and nothing on standard error
    #[arg(long, conflicts_with_all = ["raw", "pretty"])]
    pub(crate) json: bool,
}

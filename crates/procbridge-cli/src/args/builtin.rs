//! The arguments that the commands share which call built-in methods.

use clap::Args;

use crate::args::connect::ConnectArgs;
use crate::args::timeout::{Timeout, parse_timeout};

/// What all questions to a server have in common.
#[derive(Debug, Args)]
pub(crate) struct BuiltinArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// Print one line of JSON for result and failure alike, nothing on standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// Time limit of the question, connecting included, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "10s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

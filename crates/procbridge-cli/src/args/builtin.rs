//! The arguments that `info`, `list`, `describe` and `stats` share.

use clap::Args;

use crate::args::connect::ConnectArgs;
use crate::args::timeout::{Timeout, parse_timeout};

/// The arguments of a command that calls a built-in method.
#[derive(Debug, Args)]
pub(crate) struct BuiltinArgs {
    /// The server's endpoint. Optional if PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// Print one line of JSON for success and failure alike, and nothing on standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// Timeout of the call, connecting included, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "10s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

//! The arguments that commands share: how the server is reached, and how a result is printed.

use clap::Args;

use crate::args::units;
use crate::args::units::Timeout;

/// How the server is reached.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// Time limit of connecting alone, or "none"
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout, default_value = "5s")]
    pub(crate) connect_timeout: Timeout,

    /// Largest body to send or accept: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// The secret that the server asks for. Process lists show it here, and not in PROCBRIDGE_TOKEN, which is the default
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Show every packet on standard error: its way, time, kind, call id, flags, length and the start of its body,
    /// without the token
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// How a result is printed.
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

    /// Print one line of JSON for result and failure alike, nothing on standard error
    #[arg(long, conflicts_with_all = ["raw", "pretty"])]
    pub(crate) json: bool,
}

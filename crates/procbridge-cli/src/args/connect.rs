//! The arguments that commands share: how the server is reached, and how a result is printed.

use clap::Args;

use crate::args::size::parse_size;
use crate::args::timeout::{Timeout, parse_timeout};

/// How the server is reached.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// Time limit of connecting alone, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "5s")]
    pub(crate) connect_timeout: Timeout,

    /// Largest body to send or accept: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// The secret that the server asks for. Process lists show it here, and not in PROCBRIDGE_TOKEN, which is the default
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Show every packet on standard error: its way, time, kind, call id, flags, length and the start of its body,
    /// without the token
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

//! The arguments for the connection to a server.

use clap::Args;

use crate::args::size::parse_size;
use crate::args::timeout::{Timeout, parse_timeout};

/// The arguments for the connection to a server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArgs {
    /// Timeout for connecting alone, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "5s")]
    pub(crate) connect_timeout: Timeout,

    /// Largest body to send or accept: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// The secret that the server asks for. Process lists show it here, but not in PROCBRIDGE_TOKEN, the default
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Show every packet on standard error: its direction, time, kind, call id, flags, length and the start of its
    /// body, without the token
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// The hint for a body that exceeds the limit.
pub(crate) const RAISE_MAX_BODY: &str = "raise --max-body; the server has a limit of its own";
/// The hint for a timeout of connecting.
pub(crate) const RAISE_CONNECT_TIMEOUT: &str = "raise --connect-timeout";

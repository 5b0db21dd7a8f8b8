//! The arguments of `procbridge serve`.

use std::time::Duration;

use clap::Args;

use crate::args::help::SERVE_HELP;
use crate::args::units;
use crate::args::units::Timeout;

/// Serve methods: built-in ones to try things, or a command that answers every call
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// Where to listen, one or several; port 0 lets the system choose. Default: PROCBRIDGE_ENDPOINT
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoints: Vec<String>,

    #[command(flatten)]
    pub(crate) handler: ServeHandler,

    /// Give the command of --exec to "sh -c" instead of splitting it into words
    #[arg(long, requires = "exec", conflicts_with = "demo")]
    pub(crate) shell: bool,

    /// Time limit of a call, or "none". When it is over the caller gets the code "timeout" and a command is killed
    /// with its process group
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout, default_value = "60s")]
    pub(crate) timeout: Timeout,

    /// How long calls in flight may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, default_value = "10s")]
    pub(crate) drain: Duration,

    /// Calls answered at a time; more get the code "overloaded" [default: 1024, with --exec 64]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_calls: Option<u32>,

    /// Connections at a time; more get the code "overloaded"
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..), default_value = "512")]
    pub(crate) max_connections: u32,

    /// Largest body to accept or answer: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// How long a request's header may take to arrive
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, default_value = "10s")]
    pub(crate) header_timeout: Duration,

    /// How long a caller may take nothing of its answer
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, default_value = "10s")]
    pub(crate) write_timeout: Duration,

    /// Give each call a connection of its own, as the older packages do
    #[arg(long)]
    pub(crate) no_sessions: bool,

    /// ServeHandler no "$/describe", which tells the methods
    #[arg(long)]
    pub(crate) no_describe: bool,

    /// ServeHandler no "$/stats", which tells what was counted
    #[arg(long)]
    pub(crate) no_stats: bool,

    /// ServeHandler only calls that bring this secret; others get the code "denied". Process lists show it here, and not in
    /// PROCBRIDGE_TOKEN, which is the default
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Listen also on TCP addresses that other machines reach, as with a token. There is no encryption, and without a
    /// token no authentication
    #[arg(long)]
    pub(crate) allow_remote: bool,

    /// Serve other users of this machine on Unix sockets too; the socket's mode must let them in
    #[arg(long)]
    pub(crate) allow_any_user: bool,

    /// Write null results out instead of leaving them out, for clients that need the key
    #[arg(long)]
    pub(crate) explicit_null: bool,

    /// Also report every call, connections that end badly, and how commands end
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Who answers.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ServeHandler {
    /// Serve methods to try things with, listed below; any other method answers null
    #[arg(long)]
    pub(crate) demo: bool,

    /// Run a command for every call: the payload on its standard input, the result on its standard output
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
}

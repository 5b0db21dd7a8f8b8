//! The arguments of the commands that look at a server: `ping`, `info`, `list`, `describe` and `stats`.

use std::time::Duration;

use clap::Args;

use crate::args::ConnectArgs;
use crate::args::help::DESCRIBE_HELP;
use crate::args::help::INFO_HELP;
use crate::args::help::LIST_HELP;
use crate::args::help::PING_HELP;
use crate::args::help::STATS_HELP;
use crate::args::units;
use crate::args::units::Timeout;

/// Ask a server for signs of life, and tell how long they took
#[derive(Debug, Args)]
#[command(after_help = PING_HELP)]
pub(crate) struct PingArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// How many pings
    #[arg(short = 'n', long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// Pause between one ping and the next
    #[arg(short, long, value_name = "DURATION", value_parser = units::parse_interval, default_value = "1s")]
    pub(crate) interval: Duration,

    /// Fail if the p99, the time that one in a hundred takes longer than, is over this
    #[arg(long, value_name = "DURATION", value_parser = units::parse_threshold)]
    pub(crate) threshold: Option<Duration>,

    /// Time limit of each ping, or "none"
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout, default_value = "5s")]
    pub(crate) timeout: Timeout,

    /// Print one line of JSON at the end, for result and failure alike, nothing on standard error
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Tell what speaks at an endpoint: sessions or not, its name, limits and compressions
#[derive(Debug, Args)]
#[command(after_help = INFO_HELP)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

/// List the methods of a server
#[derive(Debug, Args)]
#[command(after_help = LIST_HELP)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

/// Print what a server tells of its methods, or of one
#[derive(Debug, Args)]
#[command(after_help = DESCRIBE_HELP, override_usage = "procbridge describe [OPTIONS] [ENDPOINT] [METHOD]")]
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

/// Show what a server has counted: calls, errors, times
#[derive(Debug, Args)]
#[command(after_help = STATS_HELP)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

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
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout, default_value = "10s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

//! The arguments of `procbridge ping`.

use std::time::Duration;

use clap::Args;

use crate::args::connect::ConnectArgs;
use crate::args::duration::{parse_interval, parse_threshold};
use crate::args::timeout::{Timeout, parse_timeout};

/// Check that a server answers, and measure its latency
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct PingArgs {
    /// The server's endpoint. Optional if PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// Number of pings
    #[arg(short = 'n', long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// Pause between two pings
    #[arg(short, long, value_name = "DURATION", value_parser = parse_interval, default_value = "1s")]
    pub(crate) interval: Duration,

    /// Fail if the p99, the 99th percentile of the latency, is over this
    #[arg(long, value_name = "DURATION", value_parser = parse_threshold)]
    pub(crate) threshold: Option<Duration>,

    /// Timeout of each ping, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "5s")]
    pub(crate) timeout: Timeout,

    /// Print one line of JSON at the end, for success and failure alike, and nothing on standard error
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

const HELP: &str = "\
Examples:
  procbridge ping :8000
  procbridge ping /run/app.sock -n 1000 --interval 0s
  procbridge ping :8000 -n 100 -i 10ms --threshold 2ms || alert

A ping calls the method \"$/ping\", which every server of this version has. The
first ping opens the session, and its latency includes connecting.

--json prints one line at the end. Its payload has \"pings\", \"answers\" and the
percentiles \"p50_us\", \"p90_us\", \"p99_us\" and \"max_us\".

Exit codes:
  0  every ping was answered        5  timeout of a ping
  1  internal failure               6  protocol violated, or no answer
  2  wrong command line             7  denied
  3  the server has no \"$/ping\"     8  over the threshold
  4  cannot connect                 130, 143  ended by SIGINT, SIGTERM";

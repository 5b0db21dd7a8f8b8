//! The arguments of `procbridge watch`.

use clap::Args;

use crate::args::connect::ConnectArgs;

/// Print the events of topics as they are published
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge watch [OPTIONS] [ENDPOINT] TOPIC...")]
pub(crate) struct WatchArgs {
    /// The server's endpoint, unless PROCBRIDGE_ENDPOINT is set, and the topics. In a topic "*" matches one segment
    /// between dots, at the end all remaining segments
    #[arg(value_name = "ENDPOINT TOPIC")]
    pub(crate) words: Vec<String>,

    /// End after N events
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Print a failure as one line of JSON after the events, and nothing on standard error
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

const HELP: &str = "\
Examples:
  procbridge watch :8000 'build.*'
  procbridge watch /run/app.sock build.done test.failed
  procbridge watch :8000 '*' --count 1 | jq .payload

Each event is a line of JSON:
  {\"topic\":\"build.done\",\"payload\":42}
If events were lost before it, the key \"missed\" has their number, or \"unknown\"
after a reconnect.

A line on standard error reports that the subscription is active: no later event
is missed. The first connection must succeed. After that the command reconnects
without a limit, and reports it on standard error. Watching ends with exit code 0
when the reader of the output has gone.

Exit codes:
  0  N events, with --count         5  timeout of connecting
  1  internal failure               6  protocol violated
  2  wrong command line             7  denied
  3  the server has no events, or   130, 143  ended by SIGINT, SIGTERM
     refuses them
  4  cannot connect";

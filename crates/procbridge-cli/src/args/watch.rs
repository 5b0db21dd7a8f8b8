//! The arguments of `procbridge watch`.

use clap::Args;

use crate::args::connect::ConnectArgs;

/// Print the events of topics as they are published
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge watch [OPTIONS] [ENDPOINT] TOPIC...")]
pub(crate) struct WatchArgs {
    /// Where the server is, unless PROCBRIDGE_ENDPOINT is set, and the topics: in a topic "*" stands for one segment
    /// between dots, and at the end for all that follows
    #[arg(value_name = "ENDPOINT TOPIC")]
    pub(crate) words: Vec<String>,

    /// End after so many events
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Print a failure as one line of JSON behind the events, nothing on standard error
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
When events were lost just before it, it has the key \"missed\": their number, or
\"unknown\" after the connection was lost.

Standard error tells when watching has begun: from then on no event is missed. A
lost connection is made again, for as long as it takes, which standard error tells
too. At the start the server must be there. Watching ends when the reader of the
output has gone, with exit code 0.

ExitCode codes:
  0  as many events as asked for    5  the time limit of connecting passed
  1  internal failure               6  protocol violated
  2  wrong command line             7  denied
  3  the server has no events, or   130, 143  ended by SIGINT, SIGTERM
     refuses them
  4  cannot connect";

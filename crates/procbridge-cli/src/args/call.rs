//! The arguments of `procbridge call`.

use std::ffi::OsString;

use clap::Args;

use crate::args::compression::Compression;
use crate::args::connect::ConnectArgs;
use crate::args::output::OutputArgs;
use crate::args::timeout::{Timeout, parse_timeout};
use crate::args::word::word_parser;

/// Call a method and print its result
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge call [OPTIONS] [ENDPOINT] METHOD [PAYLOAD]...")]
pub(crate) struct CallArgs {
    /// The server's endpoint. Optional if PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = word_parser())]
    pub(crate) first: Option<OsString>,

    /// The method's name
    #[arg(value_name = "METHOD", value_parser = word_parser())]
    pub(crate) second: Option<OsString>,

    /// JSON text, "-" or "@-" for standard input, "@FILE", or KEY=STRING and KEY:=JSON pairs that make an object. Without
    /// it the call has no payload
    #[arg(value_name = "PAYLOAD", value_parser = word_parser())]
    pub(crate) rest: Vec<OsString>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Print each item of a stream on a line as it arrives. The method's own result, unless it is null, is the last
    /// line
    #[arg(long, conflicts_with_all = ["pretty", "old"])]
    pub(crate) stream: bool,

    /// Send a one-way call, which has no answer, and print nothing
    #[arg(long, conflicts_with_all = ["stream", "count", "raw", "pretty", "compact", "old"])]
    pub(crate) notify: bool,

    /// Make N calls one after the other. Print the last result, and on standard error the rate and the latencies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "stream")]
    pub(crate) count: Option<u64>,

    /// Timeout of the call, connecting included: 200ms, 5s, 2m, or "none" [default: 30s, "none" with --stream]. The
    /// server learns a timeout that is given here
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(crate) timeout: Option<Timeout>,

    /// Send a metadata entry beside the payload. May be given several times
    #[arg(long, value_name = "KEY=STRING|KEY:=JSON", conflicts_with = "old")]
    pub(crate) meta: Vec<OsString>,

    /// Send the call again if its connection is lost, as running it twice does no harm
    #[arg(long)]
    pub(crate) idempotent: bool,

    /// Use a connection for each call, as the older packages do
    #[arg(long, conflicts_with_all = ["session", "compress"])]
    pub(crate) classic: bool,

    /// Require a session. Without this option a server without sessions gets the call on a classic connection
    #[arg(long, conflicts_with = "old")]
    pub(crate) session: bool,

    /// Compress payloads of 1 KiB or more if the server supports it. The answer is compressed alike. Requires a session
    #[arg(long, value_name = "CODEC", conflicts_with = "old")]
    pub(crate) compress: Option<Compression>,

    /// Speak the superseded 1.0 format, which has no token, for servers that support no other
    #[arg(long, conflicts_with = "token")]
    pub(crate) old: bool,

    /// Call without a method. All arguments after the endpoint are the payload
    #[arg(long, conflicts_with = "old")]
    pub(crate) no_method: bool,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

const HELP: &str = "\
Examples:
  procbridge call :8000 sum '[1,2,3,4]'
  procbridge call /run/app.sock greet '\"Ada\"'     a string has its JSON quotes
  procbridge call :8000 add name=Ada age:=36      sends {\"name\":\"Ada\",\"age\":36}
  procbridge call :8000 store @data.json          the payload is in a file
  procbridge call :8000 note text=@note.txt       the string is in a file
  generate | procbridge call :8000 store -
  procbridge call :8000 sleep 10 --timeout 200ms  ends with exit code 5
  procbridge call :8000 echo '{\"a\":1}' --json | jq .payload
  procbridge call :8000 count n:=3 --stream       prints 0, 1, 2
  procbridge call :8000 publish topic=a --notify  does not wait for an answer
  procbridge call :8000 sum '[1]' --count 10000   measures latency

If PROCBRIDGE_ENDPOINT is set, the endpoint is optional: a first argument that is
not an endpoint is the method.

JSON text is sent unchanged, with all its digits and the order of its keys. So is
the result. A byte order mark before JSON is removed. A terminal shows controls
and invisible characters escaped, with --raw too; a pipe gets each byte.

--json prints one of these on one line:
  {\"ok\":true,\"payload\":..,\"elapsed_us\":..}
  {\"ok\":false,\"error\":{\"kind\":..,\"code\":..,\"message\":..,\"data\":..,
   \"outcome\":..},\"exit\":..,\"elapsed_us\":..}
The outcome is \"replied\", \"not_sent\" (safe to send again) or \"unknown\" (the call
may have run). With --stream each item is a line {\"item\":..} before the envelope,
whose \"items\" is their number. With --count the envelope has \"calls\",
\"calls_per_second\" and the percentiles \"p50_us\", \"p90_us\", \"p99_us\", \"max_us\".

SIGINT (ctrl-C) and SIGTERM cancel the call. A server with a session gets a
CANCEL packet. The items of a stream that have arrived are printed. With --stream
the call is also cancelled when the reader of the output has gone, with exit
code 0.

Exit codes:
  0  result                         5  timeout
  1  internal failure               6  protocol violated, or no answer
  2  wrong command line or input    7  denied
  3  the server answered an error   130, 143  ended by SIGINT, SIGTERM
  4  cannot connect";

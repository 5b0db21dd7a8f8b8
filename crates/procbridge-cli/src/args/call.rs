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
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = word_parser())]
    pub(crate) first: Option<OsString>,

    /// The method's name
    #[arg(value_name = "METHOD", value_parser = word_parser())]
    pub(crate) second: Option<OsString>,

    /// JSON text, "-" or "@-" for standard input, "@FILE", or KEY=STRING and KEY:=JSON pairs that make an object. Without it
    /// the call has no payload
    #[arg(value_name = "PAYLOAD", value_parser = word_parser())]
    pub(crate) rest: Vec<OsString>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Print the items of a streamed answer as they come, each on a line; the method's own result, if it is not null,
    /// is the last line
    #[arg(long, conflicts_with_all = ["pretty", "old"])]
    pub(crate) stream: bool,

    /// Send the call as one that is not answered, and print nothing
    #[arg(long, conflicts_with_all = ["stream", "count", "raw", "pretty", "compact", "old"])]
    pub(crate) notify: bool,

    /// Make the call so many times, one after the other; print the last result, and on standard error how many there
    /// were a second and how long they took
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "stream")]
    pub(crate) count: Option<u64>,

    /// Time limit of the call, connecting included: 200ms, 5s, 2m, or "none" to wait for ever [default: 30s, none with
    /// --stream]. A limit given here is told to the server
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(crate) timeout: Option<Timeout>,

    /// Send an entry beside the payload, for the method to find; may be given several times
    #[arg(long, value_name = "KEY=STRING|KEY:=JSON", conflicts_with = "old")]
    pub(crate) meta: Vec<OsString>,

    /// Running the call twice does no harm: send it again if its connection was lost
    #[arg(long)]
    pub(crate) idempotent: bool,

    /// Give the call a connection of its own, as the older packages do
    #[arg(long, conflicts_with_all = ["session", "compress"])]
    pub(crate) classic: bool,

    /// Make the call in a session only; without this a server that holds none gets it all the same
    #[arg(long, conflicts_with = "old")]
    pub(crate) session: bool,

    /// Compress a payload of 1 KiB and more, if the server reads that; the answer comes in kind. Needs a session
    #[arg(long, value_name = "CODEC", conflicts_with = "old")]
    pub(crate) compress: Option<Compression>,

    /// Speak the superseded 1.0 format, which has no token, for servers that know nothing else
    #[arg(long, conflicts_with = "token")]
    pub(crate) old: bool,

    /// Call without a method; all arguments after the endpoint are the payload
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
  procbridge call :8000 publish topic=a --notify  waits for no answer
  procbridge call :8000 sum '[1]' --count 10000   how fast is it?

With PROCBRIDGE_ENDPOINT set the endpoint may be left out: a first argument that
does not read as an endpoint is the method then.

JSON text is sent as it stands: no digit and no order of keys is changed. So is
the result. A byte order mark before JSON is taken off. A terminal shows controls
and invisible characters escaped, with --raw too; a pipe gets each byte.

--json prints one of these on one line:
  {\"ok\":true,\"payload\":..,\"elapsed_us\":..}
  {\"ok\":false,\"error\":{\"kind\":..,\"code\":..,\"message\":..,\"data\":..,
   \"outcome\":..},\"exit\":..,\"elapsed_us\":..}
The outcome is \"replied\", \"not_sent\" (safe to send again) or \"unknown\" (the call
may have run). With --stream each item is a line {\"item\":..} before it, and
\"items\" tells their number. With --count there are also \"calls\",
\"calls_per_second\", \"p50_us\", \"p90_us\", \"p99_us\" and \"max_us\".

SIGINT (ctrl-C) and SIGTERM cancel the call: a server that holds a session is
told. What a stream has brought by then is printed. With --stream the call is
cancelled also when the reader of the output has gone; the exit code is 0 then.

ExitCode codes:
  0  result                         5  the time limit passed
  1  internal failure               6  protocol violated, or no answer
  2  wrong command line or input    7  denied
  3  the server answered an error   130, 143  ended by SIGINT, SIGTERM
  4  cannot connect";

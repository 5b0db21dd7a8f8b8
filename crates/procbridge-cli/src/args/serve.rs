//! The arguments of `procbridge serve`.

use std::time::Duration;

use clap::Args;

use crate::args::duration::parse_duration;
use crate::args::size::parse_size;
use crate::args::timeout::{Timeout, parse_timeout};

/// Serve methods: built-in ones to try things, or a command that answers every call
#[derive(Debug, Args)]
#[command(after_help = HELP)]
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
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "60s")]
    pub(crate) timeout: Timeout,

    /// How long calls in flight may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) drain: Duration,

    /// Calls answered at a time; more get the code "overloaded" [default: 1024, with --exec 64]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_calls: Option<u32>,

    /// Connections at a time; more get the code "overloaded"
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..), default_value = "512")]
    pub(crate) max_connections: u32,

    /// Largest body to accept or answer: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// How long a request's header may take to arrive
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) header_timeout: Duration,

    /// How long a caller may take nothing of its answer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
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

const HELP: &str = "\
Examples:
  procbridge serve :8000 --demo
  procbridge serve /run/app.sock :8000 --exec './handler --fast'
  procbridge serve 'unix:/run/app.sock?mode=0660&group=app' --exec 'jq .name'
  procbridge serve :8000 --exec 'sort | uniq -c' --shell
  PROCBRIDGE_TOKEN=$(cat secret) procbridge serve :8000 --demo

Demo methods:
  echo     the payload, untouched
  sum      the sum of an array of numbers; whole numbers exactly
  err      always the error \"generated error\"
  sleep    null after a number of seconds
  count    a stream of 0 to n-1, with n and interval_ms: '{\"n\":3,\"interval_ms\":100}'
  call_me  what the caller's own method answers, with method and payload
  publish  an event for those who watch, with topic and payload; how many they are

Commands (--exec):
  PROCBRIDGE_METHOD has the method's name (unset if the call names none),
  PROCBRIDGE_PEER the caller. Standard input is the payload as JSON, null if
  there is none. Standard output that is JSON is the result as it stands; other
  text is a string without its last newline; nothing is null. A status other
  than 0 answers an error: the last line of standard error, the code
  \"exec.failed\" and the status as data. The answer is sent when the command
  has closed its output: one that leaves a program behind must redirect it.
  Commands run in process groups of their own, which are killed at the time
  limit, when the caller cancels, and when the server ends or is killed, by
  SIGKILL too: a process \"pb-guard\" sees to that. A program that starts a
  group of its own, or that an ended command has left, lives on. As PID 1 of a
  container the server collects such programs when they end.

When it listens it says so on standard error, with the ports that the system
chose:
  ready: listening on tcp:127.0.0.1:41233 unix:/run/app.sock

SIGTERM, SIGINT, SIGHUP and SIGQUIT end it in an orderly way: no new calls, those
in flight have the time of --drain. The exit code is 0 when all of them ended,
else 128 and the signal's number. A second signal ends it at once. Under nohup
SIGHUP does nothing.

Standard error never holds the server up: lines that its reader does not take are
dropped, and their number is told when it reads again.

Only loopback addresses and callers of the same user are served, unless the
options say otherwise. With a token other machines may call too: it goes over the
network as it is. Commands are not given PROCBRIDGE_TOKEN.

ExitCode codes:
  0  orderly end                    4  cannot listen
  1  internal failure               7  not allowed to listen there
  2  wrong command line             129, 130, 131, 143  cut short by SIGHUP,
                                    SIGINT, SIGQUIT, SIGTERM";

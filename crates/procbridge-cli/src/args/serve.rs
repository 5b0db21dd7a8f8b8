//! The arguments of `procbridge serve`.

use std::time::Duration;

use clap::Args;

use crate::args::duration::parse_duration;
use crate::args::size::parse_size;
use crate::args::timeout::{Timeout, parse_timeout};

/// Serve demo methods, or a command that answers every call
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeArgs {
    /// One or several endpoints to listen on. With port 0 the system chooses a port. Default: PROCBRIDGE_ENDPOINT
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoints: Vec<String>,

    #[command(flatten)]
    pub(crate) handler: ServeHandler,

    /// Give the command of --exec to "sh -c" instead of splitting it into words
    #[arg(long, requires = "exec", conflicts_with = "demo")]
    pub(crate) shell: bool,

    /// Timeout of a call, or "none". After it the caller gets the code "timeout", and a command is killed with its
    /// process group
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "60s")]
    pub(crate) timeout: Timeout,

    /// Grace period of a graceful shutdown, in which calls in flight may finish
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) drain: Duration,

    /// Concurrency limit: calls beyond it get the code "overloaded" [default: 1024, with --exec 64]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_concurrent_calls: Option<u32>,

    /// Connection limit: connections beyond it get the code "overloaded"
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..), default_value = "512")]
    pub(crate) max_connections: u32,

    /// Largest body to accept or answer: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// Timeout for receiving a request's header
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) header_timeout: Duration,

    /// Timeout for a caller that does not read its answer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s")]
    pub(crate) write_timeout: Duration,

    /// Use a connection for each call, as the older packages do
    #[arg(long)]
    pub(crate) no_sessions: bool,

    /// Disable "$/describe", which lists the methods
    #[arg(long)]
    pub(crate) no_describe: bool,

    /// Disable "$/stats", which returns the counters
    #[arg(long)]
    pub(crate) no_stats: bool,

    /// Require this secret from callers, others get the code "denied". Process lists show it here, but not in
    /// PROCBRIDGE_TOKEN, the default
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Allow TCP addresses that other machines reach, as a token does. There is no encryption, and without a token no
    /// authentication
    #[arg(long)]
    pub(crate) allow_remote: bool,

    /// Serve other users of this machine on Unix sockets too. The socket's mode must let them in
    #[arg(long)]
    pub(crate) allow_any_user: bool,

    /// Write the key of a null result, for clients that require it
    #[arg(long)]
    pub(crate) explicit_null: bool,

    /// Also log every call, failed connections, and the exit status of commands
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// The handler of the calls.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ServeHandler {
    /// Serve the demo methods listed below. Any other method answers null
    #[arg(long)]
    pub(crate) demo: bool,

    /// Run a command for every call: its standard input is the payload, its standard output the result
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
  echo     the payload, unchanged
  sum      the sum of an array of numbers, exact for whole numbers
  err      always the error \"generated error\"
  sleep    null after a number of seconds
  count    a stream of 0 to n-1, with n and interval_ms: '{\"n\":3,\"interval_ms\":100}'
  call_me  the answer of the caller's own method, with method and payload
  publish  the number of subscribers that got the event, with topic and payload

Commands (--exec):
  PROCBRIDGE_METHOD is the method's name (unset if the call names none),
  PROCBRIDGE_PEER the caller. Standard input is the payload as JSON, null if
  there is none. Standard output that is JSON is the result, unchanged. Other
  text is a string without its last newline. Empty output is null. An exit status
  other than 0 answers an error: its message is the last line of standard error,
  its code \"exec.failed\", its data the status. The answer is sent when the
  command has closed its output, so a background program must redirect it.
  Each command runs in its own process group. The group is killed at the timeout,
  when the caller cancels, and when the server ends, even by SIGKILL: the process
  \"pb-guard\" does that. A program survives if it starts its own group, or if an
  ended command has left it running. As PID 1 of a container the server reaps
  such programs.

A server that listens prints a line on standard error, with the ports that the
system chose:
  ready: listening on tcp:127.0.0.1:41233 unix:/run/app.sock

SIGTERM, SIGINT, SIGHUP and SIGQUIT begin a graceful shutdown: no new calls, and
calls in flight have the time of --drain. The exit code is 0 if all of them ended,
else 128 plus the signal's number. A second signal ends the server at once. Under
nohup SIGHUP has no effect.

Standard error never blocks the server. Lines that its reader does not take are
dropped and counted.

By default the server accepts loopback addresses and callers of the same user
only. With a token other machines may call too: the token is sent unencrypted.
Commands do not get PROCBRIDGE_TOKEN.

Exit codes:
  0  graceful shutdown              4  cannot listen
  1  internal failure               7  not allowed to listen there
  2  wrong command line             129, 130, 131, 143  cut short by SIGHUP,
                                    SIGINT, SIGQUIT, SIGTERM";

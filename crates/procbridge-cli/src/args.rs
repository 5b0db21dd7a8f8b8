//! The grammar of the command line and its help texts. What an argument means beyond its form is for its subcommand.

use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::units::{self, Limit};

/// Call methods of ProcBridge servers, serve methods, look at packets
#[derive(Debug, Parser)]
#[command(name = "procbridge", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(styles = STYLES, max_term_width = 100, after_help = ENDPOINTS_AND_EXITS)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(CallArgs),
    Serve(ServeArgs),
    Decode(DecodeArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Call a method and print its result
#[derive(Debug, Args)]
#[command(after_help = CALL_HELP, override_usage = "procbridge call [OPTIONS] [ENDPOINT] METHOD [PAYLOAD]...")]
pub(crate) struct CallArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT")]
    pub(crate) first: Option<String>,

    /// The method's name
    #[arg(value_name = "METHOD", allow_negative_numbers = true)]
    pub(crate) second: Option<String>,

    /// JSON text, "-" for standard input, "@FILE", or KEY=STRING and KEY:=JSON pairs that make an object. Without it
    /// the call has no payload
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true)]
    pub(crate) rest: Vec<String>,

    /// Print a result that is a string without its quotes
    #[arg(short, long)]
    pub(crate) raw: bool,

    /// Indent the result. This is the default on a terminal
    #[arg(long, conflicts_with = "compact")]
    pub(crate) pretty: bool,

    /// Print the result on one line. This is the default in a pipe
    #[arg(long)]
    pub(crate) compact: bool,

    /// Print one line of JSON for result and failure alike, nothing on standard error
    #[arg(long, conflicts_with_all = ["raw", "pretty"])]
    pub(crate) json: bool,

    /// Time limit of the call, connecting included: 200ms, 5s, 2m, or "none" to wait for ever [default: 30s]. A limit
    /// given here is told to the server
    #[arg(long, value_name = "DURATION", value_parser = units::limit)]
    pub(crate) timeout: Option<Limit>,

    /// Time limit of connecting alone, or "none"
    #[arg(long, value_name = "DURATION", value_parser = units::limit, default_value = "5s")]
    pub(crate) connect_timeout: Limit,

    /// Largest body to send or accept: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// Speak the superseded 1.0 format, for servers that know nothing else
    #[arg(long)]
    pub(crate) old: bool,

    /// Call without a method; all arguments after the endpoint are the payload
    #[arg(long, conflicts_with = "old")]
    pub(crate) no_method: bool,
}

/// Serve methods: built-in ones to try things, or a command that answers every call
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// Where to listen, one or several; port 0 lets the system choose. Default: PROCBRIDGE_ENDPOINT
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoints: Vec<String>,

    #[command(flatten)]
    pub(crate) answer: Answer,

    /// Give the command of --exec to "sh -c" instead of splitting it into words
    #[arg(long, requires = "exec", conflicts_with = "demo")]
    pub(crate) shell: bool,

    /// Time limit of a call, or "none". When it is over the caller gets the code "timeout" and a command is killed
    /// with its process group
    #[arg(long, value_name = "DURATION", value_parser = units::limit, default_value = "60s")]
    pub(crate) timeout: Limit,

    /// How long calls in flight may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    pub(crate) drain: Duration,

    /// Calls answered at a time; more get the code "overloaded" [default: 1024, with --exec 64]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_calls: Option<u32>,

    /// Connections at a time; more get the code "overloaded"
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..), default_value = "512")]
    pub(crate) max_connections: u32,

    /// Largest body to accept or answer: bytes, or with KiB, MiB, GiB
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "16MiB")]
    pub(crate) max_body: u32,

    /// How long a request's header may take to arrive
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    pub(crate) header_timeout: Duration,

    /// How long a caller may take nothing of its answer
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "10s")]
    pub(crate) write_timeout: Duration,

    /// Listen also on TCP addresses that other machines reach. There is neither authentication nor encryption
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
pub(crate) struct Answer {
    /// Serve the methods echo, sum, err and sleep; any other method answers null
    #[arg(long)]
    pub(crate) demo: bool,

    /// Run a command for every call: the payload on its standard input, the result on its standard output
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
}

/// Show packets field by field
#[derive(Debug, Args)]
#[command(after_help = DECODE_HELP)]
pub(crate) struct DecodeArgs {
    /// Bytes in hexadecimal, "@FILE", or "-" for standard input, which is also the default
    #[arg(value_name = "HEX")]
    pub(crate) input: Vec<String>,

    /// Print one line of JSON a packet
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print a man page
#[derive(Debug, Args)]
#[command(after_help = MAN_HELP)]
pub(crate) struct ManArgs {
    /// The command whose page it is; without it the main page
    pub(crate) command: Option<Page>,
}

/// The commands that have a page.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Page {
    Call,
    Serve,
    Decode,
    Completions,
    Man,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const ENDPOINTS_AND_EXITS: &str = "\
Endpoints:
  :8000  127.0.0.1:8000  localhost:8000  [::1]:8000  tcp:HOST:PORT
  ./app.sock  /run/app.sock  unix:app.sock  unix:@abstract-name
  unix:/run/app.sock?mode=0660&group=app  (mode and group: for serve)

Examples:
  procbridge serve :8000 --demo
  procbridge call :8000 sum '[1,2,3,4]'

Exit codes:
  0  success
  1  failure of this program or of the system
  2  wrong command line or input
  3  the server answered with an error
  4  cannot connect, or cannot listen
  5  time limit
  6  protocol violated, or connection lost without an answer
  7  denied
  130, 143  ended by SIGINT, SIGTERM

Environment:
  PROCBRIDGE_ENDPOINT  the default endpoint
  NO_COLOR             no colours when set";

const CALL_HELP: &str = "\
Examples:
  procbridge call :8000 sum '[1,2,3,4]'
  procbridge call /run/app.sock greet '\"Ada\"'     a string has its JSON quotes
  procbridge call :8000 add name=Ada age:=36      sends {\"name\":\"Ada\",\"age\":36}
  procbridge call :8000 store @data.json          the payload is in a file
  procbridge call :8000 note text=@note.txt       the string is in a file
  generate | procbridge call :8000 store -
  procbridge call :8000 sleep 10 --timeout 200ms  ends with exit code 5
  procbridge call :8000 echo '{\"a\":1}' --json | jq .payload

With PROCBRIDGE_ENDPOINT set the endpoint may be left out: a first argument that
does not read as an endpoint is the method then.

JSON text is sent as it stands: no digit and no order of keys is changed. So is
the result.

--json prints one of these on one line:
  {\"ok\":true,\"payload\":..,\"elapsed_us\":..}
  {\"ok\":false,\"error\":{\"kind\":..,\"code\":..,\"message\":..,\"data\":..,
   \"outcome\":..},\"exit\":..,\"elapsed_us\":..}
The outcome is \"replied\", \"not_sent\" (safe to send again) or \"unknown\" (the call
may have run).

Exit codes:
  0  result                         4  cannot connect
  1  internal failure               5  the time limit passed
  2  wrong command line or input    6  protocol violated, or no answer
  3  the server answered an error   7  denied";

const SERVE_HELP: &str = "\
Examples:
  procbridge serve :8000 --demo
  procbridge serve /run/app.sock :8000 --exec './handler --fast'
  procbridge serve 'unix:/run/app.sock?mode=0660&group=app' --exec 'jq .name'
  procbridge serve :8000 --exec 'sort | uniq -c' --shell

Demo methods:
  echo   the payload, untouched
  sum    the sum of an array of numbers; whole numbers exactly
  err    always the error \"generated error\"
  sleep  null after a number of seconds

Commands (--exec):
  PROCBRIDGE_METHOD has the method's name (unset if the call names none),
  PROCBRIDGE_PEER the caller. Standard input is the payload as JSON, null if
  there is none. Standard output that is JSON is the result as it stands; other
  text is a string without its last newline; nothing is null. A status other
  than 0 answers an error: the last line of standard error, the code
  \"exec.failed\" and the status as data. The answer is sent when the command
  has closed its output: one that leaves a program behind must redirect it.

When it listens it says so on standard error, with the ports that the system
chose:
  ready: listening on tcp:127.0.0.1:41233 unix:/run/app.sock

SIGTERM and SIGINT end it in an orderly way: no new calls, those in flight have
the time of --drain. The exit code is 0 when all of them ended, else 143 or 130.
A second signal ends it at once.

Only loopback addresses and callers of the same user are served, unless the
options say otherwise.

Exit codes:
  0  orderly end                    4  cannot listen
  1  internal failure               7  not allowed to listen there
  2  wrong command line             130, 143  cut short by SIGINT, SIGTERM";

const DECODE_HELP: &str = "\
Examples:
  procbridge decode 70 62 01 01 00 00 00 02 00 00 00 7b 7d
  procbridge decode 70:62:01:01:00:00:00:02:00:00:00:7b:7d
  procbridge decode @capture.bin
  xxd capture.bin | procbridge decode

Hexadecimal may have spaces, colons, commas, 0x and line breaks in it, or be the
output of hexdump -C or xxd. A file or standard input that begins with \"pb\" is
taken as the bytes themselves. At most 64 MiB are read.

Exit codes:
  0  all packets are right          6  a packet breaks a rule
  2  the input is not hexadecimal";

const COMPLETIONS_HELP: &str = "\
Examples:
  procbridge completions bash > /etc/bash_completion.d/procbridge
  procbridge completions zsh > ~/.zfunc/_procbridge
  procbridge completions fish > ~/.config/fish/completions/procbridge.fish";

const MAN_HELP: &str = "\
Examples:
  procbridge man > procbridge.1
  procbridge man call > procbridge-call.1
  procbridge man call | man -l -";

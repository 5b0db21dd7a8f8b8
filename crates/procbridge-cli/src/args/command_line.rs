//! The grammar of the command line. Each command checks the meaning of its arguments itself.

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use crate::args::call::CallArgs;
use crate::args::completions::CompletionsArgs;
use crate::args::decode::DecodeArgs;
use crate::args::describe::DescribeArgs;
use crate::args::emit::EmitArgs;
use crate::args::info::InfoArgs;
use crate::args::list::ListArgs;
use crate::args::man::ManArgs;
use crate::args::ping::PingArgs;
use crate::args::serve::ServeArgs;
use crate::args::stats::StatsArgs;
use crate::args::watch::WatchArgs;

/// Call methods of ProcBridge servers, serve methods, inspect packets
#[derive(Debug, Parser)]
#[command(name = "procbridge", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(styles = STYLES, max_term_width = 100, after_help = HELP)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(CallArgs),
    Watch(WatchArgs),
    Emit(EmitArgs),
    Ping(PingArgs),
    Info(InfoArgs),
    List(ListArgs),
    Describe(DescribeArgs),
    Stats(StatsArgs),
    Serve(ServeArgs),
    Decode(DecodeArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const HELP: &str = "\
Endpoints:
  :8000  127.0.0.1:8000  localhost:8000  [::1]:8000  tcp:HOST:PORT
  ./app.sock  /run/app.sock  unix:app.sock  unix:@abstract-name
  unix:/run/app.sock?mode=0660&group=app  (serve takes mode, group and dir=any)
  unix:/run/app.sock?user=app             (the server runs as this user, or user=any)

Examples:
  procbridge serve :8000 --demo
  procbridge call :8000 sum '[1,2,3,4]'
  procbridge list :8000
  procbridge watch :8000 'build.*'

Exit codes:
  0  success
  1  failure of this program or of the system
  2  wrong command line or input
  3  the server answered with an error
  4  cannot connect, or cannot listen
  5  timeout
  6  protocol violated, or connection lost without an answer
  7  denied
  8  over the threshold
  130, 143  ended by SIGINT, SIGTERM

Environment:
  PROCBRIDGE_ENDPOINT  the default endpoint
  PROCBRIDGE_TOKEN     the default of --token
  NO_COLOR             disables colours if set";

//! The grammar of the command line and its help texts. What an argument means beyond its form is for its subcommand.

mod calling;
mod connect;
mod help;
mod looking;
mod serve;
pub(crate) mod target;
pub(crate) mod units;
pub(crate) mod words;

use std::ffi::OsString;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use calling::{CallArgs, Compression, EmitArgs, WatchArgs};
pub(crate) use connect::{ConnectArgs, OutputArgs};
pub(crate) use looking::{BuiltinArgs, DescribeArgs, InfoArgs, ListArgs, PingArgs, StatsArgs};
pub(crate) use serve::ServeArgs;

use crate::args::help::COMPLETIONS_HELP;
use crate::args::help::DECODE_HELP;
use crate::args::help::ENDPOINTS_AND_EXITS;
use crate::args::help::MAN_HELP;

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

/// Show packets field by field
#[derive(Debug, Args)]
#[command(after_help = DECODE_HELP)]
pub(crate) struct DecodeArgs {
    /// Bytes in hexadecimal, "@FILE", or "-" for standard input, which is also the default
    #[arg(value_name = "HEX")]
    pub(crate) input: Vec<OsString>,

    /// The packets are from the middle of a session: each has a call id. Behind a HELLO they are known to have
    #[arg(long)]
    pub(crate) session: bool,

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
    Watch,
    Emit,
    Ping,
    Info,
    List,
    Describe,
    Stats,
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

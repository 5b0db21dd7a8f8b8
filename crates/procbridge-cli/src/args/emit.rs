//! The arguments of `procbridge emit`.

use std::ffi::OsString;

use clap::Args;

use crate::args::connect::ConnectArgs;
use crate::args::output::OutputArgs;
use crate::args::timeout::{Timeout, parse_timeout};
use crate::args::word::word_parser;

/// Publish an event through a method of the server
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge emit [OPTIONS] [ENDPOINT] TOPIC [PAYLOAD]...")]
pub(crate) struct EmitArgs {
    /// The server's endpoint. Optional if PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = word_parser())]
    pub(crate) first: Option<OsString>,

    /// The topic: segments separated by dots
    #[arg(value_name = "TOPIC", value_parser = word_parser())]
    pub(crate) second: Option<OsString>,

    /// The event's payload, in the forms that "procbridge call" takes
    #[arg(value_name = "PAYLOAD", value_parser = word_parser())]
    pub(crate) rest: Vec<OsString>,

    /// The method that publishes
    #[arg(long, value_name = "METHOD", default_value = "publish")]
    pub(crate) method: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Timeout of the call, connecting included, or "none"
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout, default_value = "30s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

const HELP: &str = "\
Examples:
  procbridge emit :8000 build.done 42
  procbridge emit :8000 build.done job=nightly seconds:=93
  generate | procbridge emit /run/app.sock data.new -
  procbridge emit :8000 build.done --method admin.publish

The command calls the method \"publish\", or that of --method, with
  {\"topic\":\"build.done\",\"payload\":42}
and prints the method's result. The demo server has such a method. Its result is
the number of subscribers of the topic.

Exit codes:
  those of \"procbridge call\"";

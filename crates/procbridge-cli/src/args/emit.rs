//! The arguments of `procbridge emit`.

use std::ffi::OsString;

use clap::Args;

use crate::args::connect::ConnectArgs;
use crate::args::output::OutputArgs;
use crate::args::timeout::{Timeout, parse_timeout};
use crate::args::word::word_parser;

/// Publish an event, at a server that has a method for that
#[derive(Debug, Args)]
#[command(after_help = HELP, override_usage = "procbridge emit [OPTIONS] [ENDPOINT] TOPIC [PAYLOAD]...")]
pub(crate) struct EmitArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = word_parser())]
    pub(crate) first: Option<OsString>,

    /// The topic, segments between dots
    #[arg(value_name = "TOPIC", value_parser = word_parser())]
    pub(crate) second: Option<OsString>,

    /// The event's payload, in the forms that "procbridge call" knows
    #[arg(value_name = "PAYLOAD", value_parser = word_parser())]
    pub(crate) rest: Vec<OsString>,

    /// The method that publishes
    #[arg(long, value_name = "METHOD", default_value = "publish")]
    pub(crate) method: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Time limit of the call, connecting included, or "none"
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

It calls the method \"publish\", or that of --method, with
  {\"topic\":\"build.done\",\"payload\":42}
and prints the method's result. The demo server has such a method, whose result is
the number of those who watch the topic.

ExitCode codes:
  those of \"procbridge call\"";

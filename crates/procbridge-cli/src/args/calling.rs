//! The arguments of the commands that call an application's methods: `call`, `watch` and `emit`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::args::ConnectArgs;
use crate::args::OutputArgs;
use crate::args::help::CALL_HELP;
use crate::args::help::EMIT_HELP;
use crate::args::help::WATCH_HELP;
use crate::args::units;
use crate::args::units::Timeout;
use crate::args::words;

/// Call a method and print its result
#[derive(Debug, Args)]
#[command(after_help = CALL_HELP, override_usage = "procbridge call [OPTIONS] [ENDPOINT] METHOD [PAYLOAD]...")]
pub(crate) struct CallArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = words::word_parser())]
    pub(crate) first: Option<OsString>,

    /// The method's name
    #[arg(value_name = "METHOD", value_parser = words::word_parser())]
    pub(crate) second: Option<OsString>,

    /// JSON text, "-" or "@-" for standard input, "@FILE", or KEY=STRING and KEY:=JSON pairs that make an object. Without it
    /// the call has no payload
    #[arg(value_name = "PAYLOAD", value_parser = words::word_parser())]
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
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout)]
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

/// The compressions, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Fast
    Lz4,
    /// Small
    Zstd,
}

/// Print the events of topics as they are published
#[derive(Debug, Args)]
#[command(after_help = WATCH_HELP, override_usage = "procbridge watch [OPTIONS] [ENDPOINT] TOPIC...")]
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

/// Publish an event, at a server that has a method for that
#[derive(Debug, Args)]
#[command(after_help = EMIT_HELP, override_usage = "procbridge emit [OPTIONS] [ENDPOINT] TOPIC [PAYLOAD]...")]
pub(crate) struct EmitArgs {
    /// Where the server is. May be left out when PROCBRIDGE_ENDPOINT is set
    #[arg(value_name = "ENDPOINT", value_parser = words::word_parser())]
    pub(crate) first: Option<OsString>,

    /// The topic, segments between dots
    #[arg(value_name = "TOPIC", value_parser = words::word_parser())]
    pub(crate) second: Option<OsString>,

    /// The event's payload, in the forms that "procbridge call" knows
    #[arg(value_name = "PAYLOAD", value_parser = words::word_parser())]
    pub(crate) rest: Vec<OsString>,

    /// The method that publishes
    #[arg(long, value_name = "METHOD", default_value = "publish")]
    pub(crate) method: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Time limit of the call, connecting included, or "none"
    #[arg(long, value_name = "DURATION", value_parser = units::parse_timeout, default_value = "30s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

//! The arguments of `procbridge info`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Tell what speaks at an endpoint: sessions or not, its name, limits and compressions
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) builtin: BuiltinArgs,
}

const HELP: &str = "\
Examples:
  procbridge info :8000
  procbridge info /run/app.sock | jq .max_body

In a pipe it is one line of JSON. What the server does not tell is null there.

A server of the classic protocol 1.1 has a connection for each call, and tells
nothing of itself. One that knows sessions tells its limits:
  max_body       largest body that it takes, in bytes
  max_calls      calls in flight in a session
  stream_window  items, and stream_bytes bytes, of a stream that it takes ahead
  codecs         compressions that it reads

ExitCode codes:
  0  something that speaks ProcBridge answered
  others as of \"procbridge call\"";

//! The arguments of `procbridge info`.

use clap::Args;

use crate::args::builtin::BuiltinArgs;

/// Show the protocol, name, limits and compressions of a server
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

In a pipe the output is one line of JSON, with null for unknown values.

A server of the classic protocol 1.1 has a connection for each call, and announces
nothing. A server with sessions announces its limits:
  max_body       largest body that it accepts, in bytes
  max_calls      concurrent calls of a session
  stream_window  items of a stream that it buffers (flow control)
  stream_bytes   bytes of a stream that it buffers
  codecs         compressions that it reads

Exit codes:
  0  a ProcBridge server answered
  others as of \"procbridge call\"";

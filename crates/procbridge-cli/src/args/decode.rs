//! The arguments of `procbridge decode`.

use std::ffi::OsString;

use clap::Args;

/// Show packets field by field
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DecodeArgs {
    /// Bytes in hexadecimal, "@FILE", or "-" for standard input, the default
    #[arg(value_name = "HEX")]
    pub(crate) input: Vec<OsString>,

    /// Read packets from the middle of a session, each with a call id. After a HELLO this is the default
    #[arg(long)]
    pub(crate) session: bool,

    /// Print one line of JSON for each packet
    #[arg(long)]
    pub(crate) json: bool,
}

const HELP: &str = "\
Examples:
  procbridge decode 70 62 01 01 00 00 00 02 00 00 00 7b 7d
  procbridge decode 70:62:01:01:00:00:00:02:00:00:00:7b:7d
  procbridge decode @capture.bin
  procbridge decode @middle.bin --session
  xxd capture.bin | procbridge decode

Hexadecimal may contain spaces, colons, commas, 0x and line breaks, or be the
output of hexdump -C or xxd. A file or standard input that begins with \"pb\" is
read as raw bytes. The input may have 64 MiB at most.

Packets after a HELLO have call ids, as have those of a client after its offer.
A capture that begins in the middle of a session needs --session.

Exit codes:
  0  all packets are right          6  a packet breaks a rule
  2  the input is not hexadecimal";

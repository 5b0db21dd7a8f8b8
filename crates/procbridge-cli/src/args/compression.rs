//! The compressions of `--compress`.

use clap::ValueEnum;

/// A compression of payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Fast
    Lz4,
    /// Small
    Zstd,
}

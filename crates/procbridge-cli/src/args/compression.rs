//! The compressions.

use clap::ValueEnum;

/// The compressions, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Fast
    Lz4,
    /// Small
    Zstd,
}

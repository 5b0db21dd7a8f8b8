//! Sessions between two connections joined in memory: what each side may do, and what it makes of what the other does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod calls;
mod compression;
mod endings;
mod errors;
mod pair;
mod pieces;
mod streams;
mod unread;

//! The command line as its users see it: every test runs the program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod arguments;
mod call;
mod decode;
mod decode_session;
mod events;
mod exec;
mod guard;
mod inspect;
mod reader_gone;
mod serve;
mod standard_error;
mod streaming;
mod support;
mod terminal;
mod token;
mod usage;
mod verbose;

//! A call, whichever way it takes: what methods take and give, how calls fail, what stands around them, what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod connecting;
mod handlers;
mod public_types;
mod router;
mod scenarios;
mod settings;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tracing")]
mod tracing;
mod values;

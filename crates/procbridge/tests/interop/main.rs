//! Others: the published packages of other languages, other users, other namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod namespaces;
mod peers;
#[path = "../support/mod.rs"]
mod support;

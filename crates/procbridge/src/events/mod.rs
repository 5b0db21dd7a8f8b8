//! Events: published at a hub, sent as the items of a streamed call (PB-EVT-*).

pub(crate) mod event;
pub(crate) mod hub;
mod topic_index;

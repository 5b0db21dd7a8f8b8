//! Makes text safe to show.

pub(crate) mod unprintable;

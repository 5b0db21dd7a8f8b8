//! Answers the calls of `procbridge serve`.

pub(crate) mod child;
pub(crate) mod demo;
pub(crate) mod exec;
pub(crate) mod guard;
pub(crate) mod logger;
pub(crate) mod orphans;

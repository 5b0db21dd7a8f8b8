//! Serves demo methods, or runs a command for each call.

pub(crate) mod child;
pub(crate) mod child_registry;
pub(crate) mod demo;
pub(crate) mod exec;
pub(crate) mod find_program;
pub(crate) mod guard;
pub(crate) mod guard_process;
pub(crate) mod guard_slot;
pub(crate) mod last_line;
pub(crate) mod logger;
pub(crate) mod orphans;
pub(crate) mod pipes;
pub(crate) mod shutdown;

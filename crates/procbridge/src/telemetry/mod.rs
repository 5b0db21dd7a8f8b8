//! The telemetry of a server: log lines, counters, trace context.

pub(crate) mod log;
pub(crate) mod log_thread;
pub(crate) mod stats;
pub(crate) mod trace_context;

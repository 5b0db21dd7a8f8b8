//! How many cores this process may use.

use std::sync::OnceLock;

/// Returns the number of cores, if the system tells it. The standard library would also read quotas of control groups
/// from files: much code for a choice between few threads and some more.
pub(crate) fn cores() -> Option<usize> {
    let cores = rustix::thread::sched_getaffinity(None).ok()?;
    usize::try_from(cores.count()).ok()
}

/// Whether this process may run on more than one core.
pub(crate) fn has_several_cores() -> bool {
    static CORES: OnceLock<bool> = OnceLock::new();
    *CORES.get_or_init(|| cores().is_some_and(|cores| cores > 1))
}

//! On how many cores this process may run.

/// The number of cores, if the system tells it. The standard library would look for quotas of control groups too, in files:
/// a large piece of code for what only chooses between few threads and some more.
pub(crate) fn cores() -> Option<usize> {
    let cores = rustix::thread::sched_getaffinity(None).ok()?;
    usize::try_from(cores.count()).ok()
}

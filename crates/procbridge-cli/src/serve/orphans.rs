//! As the first process of a container, a server is the parent of all processes whose own has ended, and collects them.

use std::collections::HashSet;
use std::{fs, thread};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

use crate::error::CliError;
use crate::serve::child_registry::Children;

/// Collects orphans from now on, if this is the first process of its namespace.
pub(crate) fn collect(children: &Children) -> Result<(), CliError> {
    if !getpid().is_init() {
        return Ok(());
    }
    let mut signals =
        Signals::new([SIGCHLD]).map_err(|error| CliError::system("cannot take signals", &error))?;
    let children = children.clone();
    let collect = move || {
        for _ in signals.forever() {
            children.with_children(collect_but);
        }
    };
    let thread = thread::Builder::new().name("orphans".to_string()).spawn(collect);
    thread.map(drop).map_err(|error| CliError::system("cannot start a thread", &error))
}

/// Collects the children that have ended, other than `own`, whose ends are waited for elsewhere.
fn collect_but(own: &HashSet<Pid>) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let id = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(id) = id.filter(|id| !own.contains(id)) else { continue };
        let status = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // "4 (name) Z 1 ..", and a name may have anything in it.
        let mut fields = status.rsplit(')').next().unwrap_or_default().split_whitespace();
        if fields.next() == Some("Z") && fields.next() == Some("1") {
            let _ = waitpid(Some(id), WaitOptions::NOHANG);
        }
    }
}

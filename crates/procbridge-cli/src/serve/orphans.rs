//! Reaps orphans. As PID 1 of a container a server is the parent of all processes whose own parent has ended.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use signal_hook::consts::SIGCHLD;

use crate::error::CliError;
use crate::serve::child_registry::Children;
use crate::system::{signals, thread};

/// Reaps orphans from now on, if this process is PID 1 of its namespace.
pub(crate) fn reap_orphans(children: &Children) -> Result<(), CliError> {
    if !getpid().is_init() {
        return Ok(());
    }
    let mut signals = signals::listen(&[SIGCHLD])?;
    let children = children.clone();
    thread::spawn("orphans", move || {
        signals.forever().for_each(|_| children.with_children(reap_all_but));
    })
}

/// Reaps the ended children that are not in `own`. Other threads reap those.
fn reap_all_but(own: &HashSet<Pid>) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let id = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(id) = id.filter(|id| !own.contains(id)) else { continue };
        let status = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // The status is "4 (name) Z 1 ..", and a name may contain anything.
        let mut fields = status.rsplit(')').next().unwrap_or_default().split_whitespace();
        if fields.next() == Some("Z") && fields.next() == Some("1") {
            let _ = waitpid(Some(id), WaitOptions::NOHANG);
        }
    }
}

//! The guard process, which runs until its server has ended.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::serve::guard::{GUARD_TIMEOUT, POLL_INTERVAL, PROCESS_NAME, VARIABLE};

/// Returns the server's name, if this process is a guard.
pub(crate) fn server_name() -> Option<String> {
    let mut words = env::args();
    (words.next()? == PROCESS_NAME).then(|| words.next())?
}

/// Runs the guard of `server` until the server has ended. Then kills the server's commands.
pub(crate) fn run(server: &str) {
    // A service manager sends its signal to all processes of a service. The server decides when it ends.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let mut commands: HashMap<u64, Option<Pid>> = HashMap::new();
    let mut lines = io::stdin().lock();
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(number)), Some(Ok(group))) => {
                let group = i32::try_from(group).ok().and_then(Pid::from_raw);
                commands.insert(number, group);
            }
            (Some(Ok(number)), None) => drop(commands.remove(&number)),
            _ => {}
        }
        line.clear();
    }
    let mut unknown = Vec::new();
    for (number, group) in commands {
        match group {
            Some(group) => drop(kill_process_group(group, Signal::KILL)),
            None => unknown.push(format!("{VARIABLE}={server}-{number}")),
        }
    }
    // The server was killed while it started these commands. Their environment is visible once they run.
    let end = Instant::now() + GUARD_TIMEOUT;
    while !unknown.is_empty() && Instant::now() < end {
        unknown.retain(|mark| !kill_marked(mark));
        thread::sleep(POLL_INTERVAL);
    }
}

/// Kills the process groups of all processes with `mark` in their environment. Returns whether there were any.
fn kill_marked(mark: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let mut has_killed = false;
    for process in processes.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
            && let Some(group) = Pid::from_raw(id).and_then(|id| getpgid(Some(id)).ok())
        {
            has_killed |= kill_process_group(group, Signal::KILL).is_ok();
        }
    }
    has_killed
}

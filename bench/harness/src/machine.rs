//! The machine that the figures were measured on, and the versions that were measured.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine, the versions and the time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) date: String,
    /// Names and versions of what was measured beside us.
    pub(crate) versions: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: f64 =
            memory.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0.0);
        let dirty = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
        Self {
            processor: processor.map_or("unknown", |(_, name)| name).to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib / 1_048_576.0).round(),
            kernel: format!("{} {}", said("uname", &["-s"]), said("uname", &["-r"])),
            rustc: said("rustc", &["--version"]),
            commit: if dirty { format!("{commit} with changes") } else { commit },
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            versions: Vec::new(),
        }
    }
}

/// Returns the first line that a command prints, empty if it cannot.
pub(crate) fn said(program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_string()
}

/// Returns the version of a crate in the lock file of bench/.
pub(crate) fn locked(name: &str) -> Option<String> {
    let lock = fs::read_to_string("bench/Cargo.lock").ok()?;
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_string())
}

//! Processor time: of this process to the nanosecond, of another process and its children from /proc.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the processor time that this process has used, ended threads included.
pub(crate) fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The processor time that a process and its descendants have used.
///
/// The scheduler's figures are exact, but a thread that ends takes its own with it; those of the process are kept in
/// ticks. A comparison of two moments takes the larger of the two differences.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    exact: Duration,
    ticks: Duration,
}

impl Used {
    pub(crate) fn by(process: u32) -> Self {
        let mut used = Self::default();
        for process in family(process) {
            if let Some(stat) = Stat::of(process) {
                used.ticks += stat.used;
            }
            for task in numbers(&format!("/proc/{process}/task")) {
                let text =
                    fs::read_to_string(format!("/proc/{process}/task/{task}/schedstat")).unwrap_or_default();
                let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
                used.exact += Duration::from_nanos(nanoseconds.unwrap_or(0));
            }
        }
        used
    }

    pub(crate) fn since(self, before: Self) -> Duration {
        let exact = self.exact.saturating_sub(before.exact);
        let ticks = self.ticks.saturating_sub(before.ticks);
        // Within the grain of the ticks the exact figure is the better one.
        if ticks > exact + Duration::from_millis(25) { ticks } else { exact }
    }
}

/// Returns a process and all its descendants.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = numbers("/proc")
        .into_iter()
        .filter_map(|process| Some((process, Stat::of(process)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found
}

struct Stat {
    parent: u32,
    used: Duration,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name stands in brackets and may hold anything: what follows the last one counts.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // Fields 14 and 15 of proc(5), the state being the third; ticks of 10 ms on every Linux there is.
        let ticks = number(11)? + number(12)?;
        Some(Self { parent: u32::try_from(number(1)?).ok()?, used: Duration::from_millis(ticks * 10) })
    }
}

fn numbers(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

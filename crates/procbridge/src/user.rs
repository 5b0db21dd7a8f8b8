//! The user behind a user id that the kernel reports, as far as a process in a user namespace can know it.
//!
//! Every id that a user namespace does not map appears as the same one, the overflow id (usually 65534). A process that
//! has this id itself cannot distinguish its own user from all those.

use std::fs;
use std::sync::OnceLock;

use rustix::process::geteuid;

/// The user behind a user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The user of this process.
    Own,
    Root,
    Other,
    /// A user that this user namespace does not map, or that cannot be distinguished from one.
    Unmapped,
}

impl User {
    /// Returns the user behind `uid`.
    pub(crate) fn of(uid: u32) -> Self {
        if uid == overflow_id() && !maps_all_ids() {
            return Self::Unmapped;
        }
        match uid {
            0 => Self::Root,
            uid if uid == geteuid().as_raw() => Self::Own,
            _ => Self::Other,
        }
    }

    /// Returns the user behind the id of this process: `Unmapped` if the id stands for other users as well.
    pub(crate) fn of_this_process() -> Self {
        Self::of(geteuid().as_raw())
    }

    /// Whether this is the user of this process, or root.
    pub(crate) fn is_own_or_root(self) -> bool {
        matches!(self, Self::Own | Self::Root)
    }
}

/// Returns a user's id: `user` is a number, or a name in /etc/passwd.
pub(crate) fn user_id(user: &str) -> Option<u32> {
    id_in("/etc/passwd", user)
}

/// Returns a group's id: `group` is a number, or a name in /etc/group.
pub(crate) fn group_id(group: &str) -> Option<u32> {
    id_in("/etc/group", group)
}

fn id_in(file: &str, name: &str) -> Option<u32> {
    // The largest number means "no id" to the system.
    if let Ok(number) = name.parse() {
        return Some(number).filter(|&number| number != u32::MAX);
    }
    let names = fs::read_to_string(file).ok()?;
    let line = names.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Returns the id that stands for all unmapped ones.
fn overflow_id() -> u32 {
    static ID: OnceLock<u32> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok();
    *ID.get_or_init(|| read().unwrap_or(65_534))
}

/// Whether the user namespace of this process maps every id. False if that cannot be read.
fn maps_all_ids() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_whole(&map))
}

fn is_whole(map: &str) -> bool {
    let mapped = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    mapped.sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_whole_if_no_id_is_missing() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(is_whole("0 0 1000\n1000 1000 4294966295\n"));
        for partial in ["", "65534 1500 1\n", "0 100000 65536\n", "0 1000 1\n1 100000 65536\n"] {
            assert!(!is_whole(partial), "{partial:?}");
        }
    }

    #[test]
    fn ids_are_numbers_or_names() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(user_id("1000"), Some(1000));
        assert_eq!((user_id("4294967295"), user_id("no such user")), (None, None));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(User::of(u32::MAX), User::Other);
    }
}

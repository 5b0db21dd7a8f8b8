//! The life of a Unix socket's file: one owner, the right mode from the first instant, no stale file in the way.
//!
//! A file is stale if nobody has it bound. That is asked with a datagram socket: the kernel refuses the connect with
//! "connection refused" when the file has no owner and with "wrong type" when it has one, so no connection is
//! ever opened to a server that lives (some of them die of one that sends nothing).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, ErrorKind};

/// The file of a socket that this process listens on. Dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// Held for as long as the socket is; its file goes with it.
    _lock: Lock,
}

/// Tells one file from another at the same path. Inode numbers are used again at once, so the time of making belongs
/// to it; a later change of mode does not touch that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    made: (i64, i64),
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl SocketFile {
    /// Binds `socket` to `path`, removing a stale file. The mode is `mode`, 0600 unless it says otherwise.
    pub(crate) fn bind(
        socket: &OwnedFd,
        path: &Path,
        mode: Option<u32>,
        group: Option<&str>,
    ) -> Result<Self, Error> {
        let fail = |reason: &str| {
            Error::unsent(ErrorKind::Listen, format!("cannot listen on unix:{}: {reason}", path.display()))
        };
        let io = |error: Errno| fail(&crate::error::plain(&error.into())).with_source(io::Error::from(error));
        let group = group
            .map(|group| group_id(group).ok_or_else(|| fail(&format!("no group {group:?}"))))
            .transpose()?;
        check_parent(path).map_err(|reason| fail(&reason))?;

        let lock = Lock::acquire(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => fail("another server listens there").with_source(error),
            _ => fail(&format!("its lock file: {}", crate::error::plain(&error))).with_source(error),
        })?;
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(fail("a file that is not a socket is in the way"));
            }
            Ok(_) if is_bound(path).map_err(io)? => return Err(fail("another server listens there")),
            Ok(_) => fs::remove_file(path)
                .map_err(|error| fail(&format!("a stale socket: {}", crate::error::plain(&error))))?,
            Err(_) => {}
        }

        // The mode of the socket is the mode of the file that bind makes, less the process's mask; never more.
        let wanted = mode.unwrap_or(0o600);
        rustix::fs::fchmod(socket, Mode::from_raw_mode(wanted & 0o700)).map_err(io)?;
        let address = SocketAddrUnix::new(path).map_err(io)?;
        rustix::net::bind(socket, &address).map_err(io)?;
        let metadata = fs::symlink_metadata(path).map_err(|error| fail(&crate::error::plain(&error)))?;
        let identity = Identity::of(&metadata);
        let file = Self { path: path.to_path_buf(), identity, _lock: lock };
        // Group first: nobody must get in by a group that was not meant.
        if let Some(group) = group {
            rustix::fs::chownat(CWD, path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
        }
        if mode.is_some() {
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(wanted), AtFlags::empty()).map_err(io)?;
        }
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| Identity::of(&now) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), made: (file.mtime(), file.mtime_nsec()) }
    }
}

/// Whether a process has `path` bound, listening or about to.
///
/// # Errors
///
/// That it cannot be told: no permission, for one.
pub(crate) fn is_bound(path: &Path) -> Result<bool, Errno> {
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(other) => Err(other),
    }
}

impl Lock {
    /// Takes the lock that goes with `path`; it lasts until it is dropped or the process ends.
    fn acquire(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(flags)
                .open(&path)?;
            rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
            // The last owner removes the file before it lets go; then this lock is on a file that is gone.
            let held = file.metadata()?;
            match fs::symlink_metadata(&path) {
                Ok(now) if Identity::of(&now) == Identity::of(&held) => {
                    return Ok(Self { path, file });
                }
                _ => drop(file),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked: whoever waits for it will see that it is gone and make a new one.
        let _ = fs::remove_file(&self.path);
        let _ = rustix::fs::flock(self.file.as_fd(), FlockOperation::Unlock);
    }
}

/// A directory in which everybody may replace everybody's files is no place for a socket.
fn check_parent(path: &Path) -> Result<(), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = fs::metadata(parent).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("no directory {}", parent.display()),
        _ => crate::error::plain(&error),
    })?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a directory", parent.display()));
    }
    let (world_writable, sticky) = (metadata.mode() & 0o002 != 0, metadata.mode() & 0o1000 != 0);
    if world_writable && !sticky {
        return Err(format!(
            "everybody may replace files in {} (mode {:04o}); use a directory of your own",
            parent.display(),
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// A group by number or by its name in /etc/group.
fn group_id(group: &str) -> Option<Gid> {
    if let Ok(number) = group.parse() {
        return Some(Gid::from_raw(number));
    }
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(group))?;
    line.split(':').nth(2)?.parse().ok().map(Gid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_made_with_its_mode_and_removed_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let file = SocketFile::bind(&socket(), &path, None, None).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(file);
        let file = SocketFile::bind(&socket(), &path, Some(0o666), Some("0")).unwrap();
        assert_eq!(mode(&path), 0o666);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_live_socket_is_left_alone_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (first, second) = (socket(), socket());
        let file = SocketFile::bind(&first, &path, None, None).unwrap();
        let error = SocketFile::bind(&second, &path, None, None).unwrap_err();
        assert!(error.to_string().ends_with("another server listens there"), "{error}");

        // A server of another kind, without our lock: found by what is bound, and never connected to.
        drop(file);
        let foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
        foreign.set_nonblocking(true).unwrap();
        let error = SocketFile::bind(&second, &path, None, None).unwrap_err();
        assert!(error.to_string().ends_with("another server listens there"), "{error}");
        assert_eq!(foreign.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(foreign);
        assert!(path.exists());
        SocketFile::bind(&second, &path, None, None).unwrap();
    }

    #[test]
    fn only_what_is_ours_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let file = SocketFile::bind(&socket(), &path, None, None).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "someone else's").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "someone else's");
        let error = SocketFile::bind(&socket(), &path, None, None).unwrap_err();
        assert!(error.to_string().ends_with("a file that is not a socket is in the way"), "{error}");
    }

    #[test]
    fn a_directory_that_is_open_to_all_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        rustix::fs::chmod(&open, Mode::from_raw_mode(0o777)).unwrap();
        let error = SocketFile::bind(&socket(), &open.join("a.sock"), None, None).unwrap_err();
        assert!(error.to_string().contains("everybody may replace files"), "{error}");
        rustix::fs::chmod(&open, Mode::from_raw_mode(0o1777)).unwrap();
        assert!(SocketFile::bind(&socket(), &open.join("a.sock"), None, None).is_ok());
    }

    #[test]
    fn of_many_starters_exactly_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = dir.path().join(format!("{round}.sock"));
            let won: Vec<_> = std::thread::scope(|scope| {
                let start = || SocketFile::bind(&socket(), &path, None, None);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
            });
            assert_eq!(won.len(), 1);
        }
    }
}

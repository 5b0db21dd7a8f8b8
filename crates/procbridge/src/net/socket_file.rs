//! The life cycle of a Unix socket's file: one owner, the right mode from the first instant, no stale file in the way.
//!
//! A file is stale if no process has it bound. A datagram socket finds out. The kernel refuses its connect with
//! "connection refused" when the file has no owner, and with "wrong type" when it has one. So no connection is ever
//! opened to a live server (some servers die of a connection that sends nothing).
//!
//! A lock on the directory serializes starting servers and leaves no file behind, see decision 0005.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::endpoint::Options;
use crate::error::{Error, ErrorKind, plain};
use crate::net::process::Creator;
use crate::user::group_id;

/// The file of a socket that this process listens on. Dropping it removes the file, if it is still this one.
///
/// The file is identified by its inode, which an open descriptor keeps from being reused, and found through a
/// descriptor of its directory. Neither a change of the working directory nor another file of that name leads to the
/// wrong one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    directory: OwnedFd,
    file: OwnedFd,
    /// The process that serves. Without one, the file stays as long as any process has the socket.
    server: Option<Creator>,
}

/// A reason not to listen.
struct Reason {
    text: String,
    source: Option<io::Error>,
}

impl SocketFile {
    /// Binds `socket` to `path`, removing a stale file. The mode is 0600, or 0660 for a group, unless the options have
    /// one.
    pub(crate) fn bind(socket: &OwnedFd, path: &Path, options: &Options) -> Result<Self, Error> {
        Self::try_bind(socket, path, options).map_err(|Reason { text, source }| {
            let error =
                Error::unsent(ErrorKind::Listen, format!("cannot listen on unix:{}: {text}", path.display()));
            match source {
                Some(source) => error.with_source(source),
                None => error,
            }
        })
    }

    fn try_bind(socket: &OwnedFd, path: &Path, options: &Options) -> Result<Self, Reason> {
        let group = match &options.group {
            Some(group) => Some(group_id(group).ok_or_else(|| format!("no group {group:?}"))?),
            None => None,
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_parent(parent, options.any_dir)?;
        let directory = open_directory(parent)
            .map_err(|error| reason(error, format_args!("cannot open {}", parent.display())))?;

        let lock = DirectoryLock::take(&directory);
        remove_stale(path)?;
        // The file that bind makes gets the mode of the socket, less the process's umask; never more.
        let wanted = options.mode();
        let at = |doing: &'static str| move |error: Errno| reason(error, doing);
        rustix::fs::fchmod(socket, Mode::from_raw_mode(wanted & 0o700)).map_err(at("cannot set its mode"))?;
        let address = SocketAddrUnix::new(path).map_err(at("its path"))?;
        match rustix::net::bind(socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err("another server listens there".into()),
            Err(error) => {
                return Err(reason(error, format_args!("cannot make a socket in {}", parent.display())));
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(at("its file"))?;
        let found = rustix::fs::fstat(&file).map_err(at("its file"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
            return Err(format!(
                "another process replaced the file at once; find out which one writes to {}",
                parent.display()
            )
            .into());
        }
        drop(lock);
        let file = Self { path: path.to_path_buf(), directory, file, server: None };
        // The group comes first, or a process of an unintended group could connect in between.
        if let Some(group) = group {
            file.set_group(group).map_err(at("cannot give it to its group"))?;
        }
        if options.mode.is_some() || group.is_some() {
            file.set_mode(wanted).map_err(at("cannot set its mode"))?;
        }
        Ok(file)
    }

    /// Makes this process the one that serves, and so the one that removes the file.
    pub(crate) fn serve(&mut self) {
        self.server = Some(Creator::this());
    }

    fn set_group(&self, group: u32) -> Result<(), Errno> {
        rustix::fs::chownat(&self.file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        // By the descriptor, so that no other file gets this mode; without /proc by the name.
        match rustix::fs::chmodat(CWD, self.proc_path(), mode, AtFlags::empty()) {
            Err(Errno::NOENT) => rustix::fs::chmodat(CWD, &self.path, mode, AtFlags::empty()),
            result => result,
        }
    }

    /// Returns a path of this very file, even if it was renamed.
    fn proc_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    fn remove(&self) -> Result<(), Errno> {
        let Some(name) = self.path.file_name() else { return Ok(()) };
        let now = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_same(&now, &rustix::fs::fstat(&self.file)?) {
            rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Whether any process has the socket.
    fn is_in_use(&self) -> bool {
        match is_bound(&self.proc_path()) {
            Ok(false) if !Path::new("/proc/self/fd").exists() => is_bound(&self.path).unwrap_or(true),
            Ok(is_bound) => is_bound,
            Err(_) => true,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file of an open socket is not stale, so no starting server replaces it between the check and the removal.
        // If the socket may be closed already, the lock keeps others out.
        let lock = self.server.is_none().then(|| DirectoryLock::take(&self.directory));
        let is_ours = match self.server {
            Some(server) => server.is_this(),
            // Not served yet: after a fork another process may be about to serve.
            None => !self.is_in_use(),
        };
        if is_ours {
            let _ = self.remove();
        }
        drop(lock);
    }
}

/// A lock on a directory: no other starting server removes or makes a socket there meanwhile.
struct DirectoryLock<'a>(Option<&'a OwnedFd>);

impl<'a> DirectoryLock<'a> {
    /// Waits for the lock, up to [`MAX_LOCK_WAIT`]: servers hold it for an instant, so a longer holder has another
    /// purpose, or means harm. Without the lock, or on a file system without locks, the server starts all the same.
    /// Only two servers that start at the same instant over a stale file could then collide.
    fn take(directory: &'a OwnedFd) -> Self {
        let deadline = Instant::now() + MAX_LOCK_WAIT;
        loop {
            match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Self(Some(directory)),
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_micros(500));
                }
                Err(_) => return Self(None),
            }
        }
    }
}

impl Drop for DirectoryLock<'_> {
    fn drop(&mut self) {
        if let Some(directory) = self.0 {
            let _ = rustix::fs::flock(directory, FlockOperation::Unlock);
        }
    }
}

impl Options {
    /// Returns the mode of the file. A group that is named should be able to connect.
    pub(crate) fn mode(&self) -> u32 {
        self.mode.unwrap_or(if self.group.is_some() { 0o660 } else { 0o600 })
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, source: None }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

fn reason(error: Errno, doing: impl fmt::Display) -> Reason {
    let source = io::Error::from(error);
    Reason { text: format!("{doing}: {}", plain(&source)), source: Some(source) }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Opens a directory to lock it or, if that is not allowed, to find files in it.
fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty())
        .or_else(|_| rustix::fs::open(path, flags | OFlags::PATH, Mode::empty()))
}

/// Removes the socket at `path` if no process has it bound.
fn remove_stale(path: &Path) -> Result<(), Reason> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err("a file that is not a socket is in the way".into());
    }
    let stale = |error, doing: &str| {
        let found = format!("the socket of user {} that is there already {doing}", metadata.uid());
        reason(error, format_args!("{found}; remove it if no server uses it"))
    };
    if is_bound(path).map_err(|error| stale(error, "cannot be probed"))? {
        return Err("another server listens there".into());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Err(stale(error, "has no server and cannot be removed"))
        }
        _ => Ok(()),
    }
}

/// Whether a process has bound `path`, even if it does not listen yet.
///
/// # Errors
///
/// The system refuses to tell, for example without permission.
pub(crate) fn is_bound(path: &Path) -> Result<bool, Errno> {
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(other) => Err(other),
    }
}

/// Refuses a directory in which every user may replace every file, unless the endpoint allows it.
fn check_parent(parent: &Path, is_any_allowed: bool) -> Result<(), String> {
    let metadata = fs::metadata(parent).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("no directory {}", parent.display()),
        _ => format!("cannot read the metadata of {}: {}", parent.display(), plain(&error)),
    })?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a directory", parent.display()));
    }
    let (world_writable, sticky) = (metadata.mode() & 0o002 != 0, metadata.mode() & 0o1000 != 0);
    if world_writable && !sticky && !is_any_allowed {
        return Err(format!(
            "every user may replace files in {} (mode {:04o}); use a directory of your own, or add dir=any to the \
             endpoint if all who can reach it are trusted",
            parent.display(),
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// How long a starting server waits for the lock.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;

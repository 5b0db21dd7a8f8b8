//! The peer on the other end of a connection.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::user::User;

/// The other end of a connection: an address for TCP, a process for a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix(Credentials),
}

/// The process at the other end of a Unix socket, as the kernel saw it when it connected.
///
/// In a user namespace, each user or group that the namespace does not map has the overflow id, usually 65534. This
/// number then stands for many users, and proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id; the process may have ended since. 0 if its PID namespace is not visible to this process.
    pub pid: i32,
}

impl Credentials {
    /// The credentials of a peer that the kernel does not know: no user has these ids.
    pub const UNKNOWN: Self = Self { uid: u32::MAX, gid: u32::MAX, pid: 0 };

    fn of(socket: impl AsFd) -> Self {
        // Without rustix 1.1: its pid type has no 0, which the kernel reports for a process in another PID namespace.
        getsockopt(&socket, PeerCredentials).map_or(Self::UNKNOWN, |found| Self {
            uid: found.uid(),
            gid: found.gid(),
            pid: found.pid(),
        })
    }
}

impl Peer {
    /// Returns the user id of the other end, if the kernel tells it (Unix sockets).
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Unix(credentials) => Some(credentials.uid),
            Self::Tcp(_) => None,
        }
    }

    /// Returns the other end of a connected socket. If the system does not tell the peer of a Unix socket, its
    /// credentials are [`Credentials::UNKNOWN`].
    ///
    /// # Errors
    ///
    /// - `NotConnected`: the socket has no other end, or none any more (a TCP connection that was reset).
    pub fn of_socket(socket: impl AsFd) -> std::io::Result<Self> {
        let address = rustix::net::getpeername(&socket)?;
        Ok(Self::of(socket, address.and_then(|address| SocketAddr::try_from(address).ok())))
    }

    /// Returns the other end of an accepted `socket`; over TCP that is its `address`. It never fails: a connection that
    /// needs no credentials must not be lost because they cannot be read.
    pub(crate) fn of(socket: impl AsFd, address: Option<SocketAddr>) -> Self {
        address.map_or_else(|| Self::Unix(Credentials::of(socket)), Self::Tcp)
    }

    /// Whether this peer is the user of this process, or root. False if that is unknown.
    pub(crate) fn is_same_user_or_root(&self) -> bool {
        self.uid().is_some_and(|uid| User::of(uid).is_own_or_root())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(Credentials { uid, gid, pid }) => write!(f, "unix:uid={uid},gid={gid},pid={pid}"),
        }
    }
}

//! Who is on the other end of a connection.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id; it may have ended since.
    pub pid: i32,
}

impl Peer {
    /// The user on the other end, where the kernel tells (Unix sockets).
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Unix(credentials) => Some(credentials.uid),
            Self::Tcp(_) => None,
        }
    }

    /// The other end of a socket that has been connected.
    pub(crate) fn of_server(socket: impl AsFd) -> std::io::Result<Self> {
        let address = rustix::net::getpeername(&socket)?;
        Self::of(socket, address.and_then(|address| SocketAddr::try_from(address).ok()))
    }

    /// The other end of an accepted `socket`; its `address` if it has one.
    pub(crate) fn of(socket: impl AsFd, address: Option<SocketAddr>) -> std::io::Result<Self> {
        address.map_or_else(|| Self::of_unix_socket(socket), |address| Ok(Self::Tcp(address)))
    }

    fn of_unix_socket(socket: impl AsFd) -> std::io::Result<Self> {
        let found = rustix::net::sockopt::socket_peercred(socket)?;
        let (uid, gid, pid) = (found.uid.as_raw(), found.gid.as_raw(), found.pid.as_raw_pid());
        Ok(Self::Unix(Credentials { uid, gid, pid }))
    }

    /// Whether this peer is the user that this process runs as, or root.
    pub(crate) fn is_same_user_or_root(&self) -> bool {
        self.uid().is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
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

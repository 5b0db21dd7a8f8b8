//! How a client gets its connection: the steps and the rules about time; the same for both faces, which wait in their
//! own ways.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::endpoint::{Address, Endpoint};
use crate::error::{Error, ErrorKind, plain};
use crate::net::socket_file::is_bound;
use crate::peer::Peer;
use crate::user::{User, user_id};

/// A TCP connection that is being made.
#[derive(Debug)]
pub(crate) enum Connecting {
    Connected(OwnedFd),
    /// It is made, or has failed, once the socket can be written to; [`check`] tells.
    Begun(OwnedFd),
}

/// The pauses between the attempts at a Unix socket whose queue is full. There is nothing to poll for; the kernel has no
/// event for it.
#[derive(Debug)]
pub(crate) struct BacklogRetry {
    pause: Duration,
}

/// How long each attempt at a TCP address is waited for. Within one machine a connection is made at once, or the server's
/// queue is full and the system has dropped the attempt; it tries again only after a second, and then doubles that.
#[derive(Debug)]
pub(crate) struct SynRetry {
    patience: Option<Duration>,
}

impl Endpoint {
    /// Whether a process has the Unix socket at this path bound. It is told without opening a connection, of which some
    /// servers die if it carries no call.
    ///
    /// # Errors
    ///
    /// - `Unsupported`: this is not a Unix socket with a path; only a call tells about the others.
    /// - `PermissionDenied` and others: the system does not tell.
    ///
    /// # Example
    ///
    /// ```
    /// let endpoint = procbridge::Endpoint::unix("/nowhere/app.sock");
    /// assert!(!endpoint.has_listener()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn has_listener(&self) -> io::Result<bool> {
        match &self.address {
            Address::Path { path, .. } => Ok(is_bound(path)?),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Checks whose server a client has connected to at a Unix socket, as all clients do before they send anything. A TCP
    /// peer has no user to check.
    ///
    /// # Errors
    ///
    /// - `Denied`: the server runs neither as the user of this process nor as root, and the endpoint does not allow its user
    ///   (`?user=NAME`, or `?user=any` for every user). A server whose user the user namespace of this process does not map
    ///   is refused only by a client that `sends_token`.
    pub fn check_server(&self, peer: &Peer, sends_token: bool) -> Result<(), Error> {
        let Some(uid) = peer.uid() else { return Ok(()) };
        let user = User::of(uid);
        let is_allowed = || match self.user() {
            None => false,
            Some("any") => true,
            Some(name) => user != User::Unmapped && user_id(name) == Some(uid),
        };
        if user.is_own_or_root() || is_allowed() || (user == User::Unmapped && !sends_token) {
            return Ok(());
        }
        Err(Error::unsent(
            ErrorKind::Denied,
            match user {
                User::Unmapped => format!(
                    "will not send a token to {self}: its server runs as a user that this user namespace does not map; \
                     write \"{}\" if that is meant",
                    self.with_user("any")
                ),
                _ => format!(
                    "will not call {self}: its server runs as user {uid}, neither this process's own user ({}) nor root; \
                     write \"{}\" if that is meant",
                    rustix::process::geteuid().as_raw(),
                    self.with_user(&uid.to_string())
                ),
            },
        ))
    }
}

/// The other end of a connected Unix socket, if a client may [speak to it](Endpoint::check_server).
pub(crate) fn unix_server(endpoint: &Endpoint, socket: impl AsFd, sends_token: bool) -> Result<Peer, Error> {
    let peer = Peer::of(socket, None);
    endpoint.check_server(&peer, sends_token)?;
    Ok(peer)
}

/// The other end of a TCP socket that has been connected to `address`.
///
/// # Errors
///
/// - `ConnectionRefused`: it is its own other end. A client that connects within its own machine to a port where no server
///   listens may get this very port for itself, and the system then connects the socket to itself.
pub(crate) fn tcp_server(socket: impl AsFd, address: SocketAddr) -> io::Result<Peer> {
    let own = SocketAddr::try_from(rustix::net::getsockname(&socket)?).ok();
    let is_itself = own.is_some_and(|own| {
        let (own_ip, ip) = (own.ip().to_canonical(), address.ip().to_canonical());
        own.port() == address.port() && (own_ip == ip || ip.is_unspecified())
    });
    if is_itself {
        // Closed with a reset: otherwise the port stays taken for a minute, and the server cannot start.
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(Peer::Tcp(address))
}

/// Begins to connect to one address.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<Connecting> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    let mut result = rustix::net::connect(&socket, &address);
    if result == Err(Errno::INPROGRESS) {
        // Within one machine that is usually not true any more: asking costs less than a wait.
        result = rustix::net::connect(&socket, &address);
    }
    match result {
        Ok(()) => Ok(Connecting::Connected(socket)),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Ok(Connecting::Begun(socket)),
        Err(error) => Err(error.into()),
    }
}

/// What came of a connection that was [begun](Connecting::Begun), once its socket can be written to.
pub(crate) fn check(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// Connects to a Unix socket, which takes no time. `AGAIN` means that its queue is full.
pub(crate) fn unix(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    let address = match &endpoint.address {
        Address::Path { path, .. } => SocketAddrUnix::new(path)?,
        Address::Abstract { name, .. } => SocketAddrUnix::new_abstract_name(name)?,
        Address::Tcp { .. } => return Err(Errno::AFNOSUPPORT),
    };
    loop {
        let socket = socket(AddressFamily::UNIX)?;
        match rustix::net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            result => return result.map(|()| socket),
        }
    }
}

/// Until when the next of `left` addresses may be tried: they share the time until `deadline`.
pub(crate) fn attempt_deadline(deadline: Option<Instant>, now: Instant, left: usize) -> Option<Instant> {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / left)
}

/// The error of a name that the resolver was asked for.
pub(crate) fn unresolved(endpoint: &Endpoint, host: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        return cannot_connect(endpoint, error);
    }
    let message = format!("cannot connect to {endpoint}: no address for {host:?}");
    Error::unsent(ErrorKind::Connect, message).with_source(error)
}

/// A failed connect, told as what it means to a caller; the same for both faces.
pub(crate) fn cannot_connect(endpoint: &Endpoint, error: io::Error) -> Error {
    let (kind, reason) = match error.kind() {
        io::ErrorKind::TimedOut => (ErrorKind::Timeout, "no connection within the time limit".to_string()),
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, plain(&error)),
        io::ErrorKind::NotFound => (ErrorKind::Connect, "no such file".to_string()),
        io::ErrorKind::ConnectionRefused => {
            (ErrorKind::Connect, "connection refused, no server answers there".to_string())
        }
        _ => (ErrorKind::Connect, plain(&error)),
    };
    Error::unsent(kind, format!("cannot connect to {endpoint}: {reason}")).with_source(error)
}

impl SynRetry {
    pub(crate) fn new(address: &SocketAddr) -> Self {
        Self { patience: address.ip().is_loopback().then_some(FIRST_RETRY) }
    }

    /// Until when the next attempt is waited for, of a connection that must be there at `deadline`.
    pub(crate) fn next(&mut self, deadline: Option<Instant>, now: Instant) -> Option<Instant> {
        let patience = self.patience;
        self.patience = patience.map(|patience| (patience * 2).min(LAST_RETRY));
        [deadline, patience.and_then(|patience| now.checked_add(patience))].into_iter().flatten().min()
    }

    /// Whether there may be another attempt after one that was not made in time.
    pub(crate) fn is_again(&self, deadline: Option<Instant>, now: Instant) -> bool {
        self.patience.is_some() && deadline.is_none_or(|deadline| now < deadline)
    }
}

impl BacklogRetry {
    pub(crate) fn new() -> Self {
        Self { pause: Duration::from_micros(200) }
    }

    /// How long to wait before the next attempt; nothing when the time is over.
    pub(crate) fn pause(&mut self, deadline: Option<Instant>, now: Instant) -> Option<Duration> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(Duration::from_millis(20));
        Some(left.map_or(pause, |left| left.min(pause)))
    }
}

/// Longer than the system needs for a connection within one machine, however busy that is.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_millis(320);

fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, connect, getsockname, listen};

    use super::*;

    #[test]
    fn a_connection_to_itself_is_refused_and_leaves_the_port_free() {
        for loopback in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let address: SocketAddr = loopback.parse().unwrap();
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let new =
                || rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
            let itself = new();
            if bind(&itself, &address).is_err() {
                println!("skipped {loopback}: this machine has no such address");
                continue;
            }
            let address = SocketAddr::try_from(getsockname(&itself).unwrap()).unwrap();
            connect(&itself, &address).unwrap();
            let error = tcp_server(&itself, address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            drop(itself);
            // Not with SO_REUSEADDR, which would overlook what is left of a connection.
            let server = new();
            bind(&server, &address).unwrap();
            listen(&server, 1).unwrap();
            let client = new();
            connect(&client, &address).unwrap();
            assert_eq!(tcp_server(&client, address).unwrap(), Peer::Tcp(address));
        }
    }

    #[test]
    fn only_the_own_users_and_roots_servers_are_spoken_to_unless_the_endpoint_says_so() {
        let own = rustix::process::geteuid().as_raw();
        let peer = |uid| Peer::Unix(crate::peer::Credentials { uid, gid: 0, pid: 0 });
        let check =
            |endpoint: &str, uid| endpoint.parse::<Endpoint>().unwrap().check_server(&peer(uid), false);
        let other = own + 7;
        for place in ["unix:/a.sock", "unix:@a"] {
            check(place, own).unwrap();
            check(place, 0).unwrap();
            let error = check(place, other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(&format!("write \"{place}?user={other}\"")), "{error}");
            check(&format!("{place}?user={other}"), other).unwrap();
            check(&format!("{place}?user=any"), other).unwrap();
            check(&format!("{place}?user={}", other + 1), other).unwrap_err();
            check(&format!("{place}?user=no-such-user"), other).unwrap_err();
        }
    }
}

//! How a client connects: the steps and the rules about time. Both faces share it and add how they wait.

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

/// A TCP connection attempt.
#[derive(Debug)]
pub(crate) enum Connecting {
    Connected(OwnedFd),
    /// The attempt has ended once the socket is writable; [`check`] returns its result.
    Begun(OwnedFd),
}

/// The backoff between attempts at a Unix socket whose backlog is full. The kernel has no event for a free entry, so
/// there is nothing to poll.
#[derive(Debug)]
pub(crate) struct BacklogRetry {
    pause: Duration,
}

/// The timeout of each attempt at a TCP address. Within one machine a connection is made at once, or the server's
/// backlog is full and the system has dropped the attempt. The system retries after a second, and then doubles that.
#[derive(Debug)]
pub(crate) struct SynRetry {
    timeout: Option<Duration>,
}

impl Endpoint {
    /// Whether a process has bound the Unix socket at this path. It does not connect, as some servers die of a
    /// connection without a call.
    ///
    /// # Errors
    ///
    /// - `Unsupported`: this endpoint is not a Unix socket with a path; only a call finds out about others.
    /// - `PermissionDenied` and others: the system refuses to tell.
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

    /// Checks the user of the server that a client has connected to at a Unix socket. All clients do so before they
    /// send anything. A TCP peer has no user to check.
    ///
    /// # Errors
    ///
    /// - `Denied`: the server runs neither as the user of this process nor as root. The endpoint may allow its user
    ///   (`?user=NAME`, or `?user=any` for every user). If the user namespace of this process does not map the
    ///   server's user, only a client that `sends_token` refuses it.
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

/// Returns the peer of a connected Unix socket, if a client may [use it](Endpoint::check_server).
pub(crate) fn unix_server(endpoint: &Endpoint, socket: impl AsFd, sends_token: bool) -> Result<Peer, Error> {
    let peer = Peer::of(socket, None);
    endpoint.check_server(&peer, sends_token)?;
    Ok(peer)
}

/// Returns the peer of a TCP socket that has been connected to `address`.
///
/// # Errors
///
/// - `ConnectionRefused`: the socket is connected to itself. No server listens at the port. The client
///   has got this very port as its own, so the system connects the socket to itself.
pub(crate) fn tcp_server(socket: impl AsFd, address: SocketAddr) -> io::Result<Peer> {
    let own = SocketAddr::try_from(rustix::net::getsockname(&socket)?).ok();
    let is_itself = own.is_some_and(|own| {
        let (own_ip, ip) = (own.ip().to_canonical(), address.ip().to_canonical());
        own.port() == address.port() && (own_ip == ip || ip.is_unspecified())
    });
    if is_itself {
        // Close with a reset: otherwise the port stays taken for a minute, and the server cannot start.
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
        // Within one machine the connection is usually made by now: asking costs less than a wait.
        result = rustix::net::connect(&socket, &address);
    }
    match result {
        Ok(()) => Ok(Connecting::Connected(socket)),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Ok(Connecting::Begun(socket)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the result of a [begun](Connecting::Begun) attempt, once its socket is writable.
pub(crate) fn check(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// Connects to a Unix socket, without waiting. `AGAIN` means that its backlog is full.
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

/// Returns the deadline for the next of `left` addresses: they share the time until `deadline`.
pub(crate) fn attempt_deadline(deadline: Option<Instant>, now: Instant, left: usize) -> Option<Instant> {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / left)
}

/// Returns the error of a host name that could not be resolved.
pub(crate) fn unresolved(endpoint: &Endpoint, host: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        return cannot_connect(endpoint, error);
    }
    let message = format!("cannot connect to {endpoint}: no address for {host:?}");
    Error::unsent(ErrorKind::Connect, message).with_source(error)
}

/// Returns the error of a failed connect, worded for the caller.
pub(crate) fn cannot_connect(endpoint: &Endpoint, error: io::Error) -> Error {
    let (kind, reason) = match error.kind() {
        io::ErrorKind::TimedOut => (ErrorKind::Timeout, "no connection within the timeout".to_string()),
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
        Self { timeout: address.ip().is_loopback().then_some(FIRST_RETRY) }
    }

    /// Returns the deadline of the next attempt, for a connection that must be made by `deadline`.
    pub(crate) fn next(&mut self, deadline: Option<Instant>, now: Instant) -> Option<Instant> {
        let timeout = self.timeout;
        self.timeout = timeout.map(|timeout| (timeout * 2).min(LAST_RETRY));
        [deadline, timeout.and_then(|timeout| now.checked_add(timeout))].into_iter().flatten().min()
    }

    /// Whether there may be another attempt after one that timed out.
    pub(crate) fn is_again(&self, deadline: Option<Instant>, now: Instant) -> bool {
        self.timeout.is_some() && deadline.is_none_or(|deadline| now < deadline)
    }
}

impl BacklogRetry {
    pub(crate) fn new() -> Self {
        Self { pause: Duration::from_micros(200) }
    }

    /// Returns how long to wait before the next attempt; nothing once the deadline has passed.
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

/// Longer than the system needs for a connection within one machine, even a busy one.
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
            // Without SO_REUSEADDR, which would ignore the remains of a connection.
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
        for unix in ["unix:/a.sock", "unix:@a"] {
            check(unix, own).unwrap();
            check(unix, 0).unwrap();
            let error = check(unix, other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains(&format!("write \"{unix}?user={other}\"")), "{error}");
            check(&format!("{unix}?user={other}"), other).unwrap();
            check(&format!("{unix}?user=any"), other).unwrap();
            check(&format!("{unix}?user={}", other + 1), other).unwrap_err();
            check(&format!("{unix}?user=no-such-user"), other).unwrap_err();
        }
    }
}

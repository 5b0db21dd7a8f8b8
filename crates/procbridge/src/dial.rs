//! How a client gets its connection: the steps and the rules about time; the same for both faces, which wait in their
//! own ways.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::endpoint::{Address, Endpoint};
use crate::error::{Error, ErrorKind, cannot_connect};

/// A TCP connection that is being made.
#[derive(Debug)]
pub(crate) enum Dialled {
    Connected(OwnedFd),
    /// It is made, or has failed, once the socket can be written to; [`check`] tells.
    Begun(OwnedFd),
}

/// The pauses between the attempts at a Unix socket whose queue is full. There is nothing to poll for; the kernel has no
/// event for it.
#[derive(Debug)]
pub(crate) struct FullQueue {
    pause: Duration,
}

/// How long each attempt at a TCP address is waited for. Within one machine a connection is made at once, or the server's
/// queue is full and the system has dropped the attempt; it tries again only after a second, and then doubles that.
#[derive(Debug)]
pub(crate) struct Dropped {
    patience: Option<Duration>,
}

/// Begins to connect to one address.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<Dialled> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    let mut result = rustix::net::connect(&socket, &address);
    if result == Err(Errno::INPROGRESS) {
        // Within one machine that is usually not true any more: asking costs less than a wait.
        result = rustix::net::connect(&socket, &address);
    }
    match result {
        Ok(()) => Ok(Dialled::Connected(socket)),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Ok(Dialled::Begun(socket)),
        Err(error) => Err(error.into()),
    }
}

/// What came of a connection that was [begun](Dialled::Begun), once its socket can be written to.
pub(crate) fn check(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// Connects to a Unix socket, which takes no time. `AGAIN` means that its queue is full.
pub(crate) fn unix(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    let address = match &endpoint.address {
        Address::Path { path, .. } => SocketAddrUnix::new(path)?,
        Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
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
pub(crate) fn share(deadline: Option<Instant>, now: Instant, left: usize) -> Option<Instant> {
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

impl Dropped {
    pub(crate) fn new(address: &SocketAddr) -> Self {
        Self { patience: address.ip().is_loopback().then_some(SOON) }
    }

    /// Until when the next attempt is waited for, of a connection that must be there at `deadline`.
    pub(crate) fn next(&mut self, deadline: Option<Instant>, now: Instant) -> Option<Instant> {
        let patience = self.patience;
        self.patience = patience.map(|patience| (patience * 2).min(LATE));
        [deadline, patience.and_then(|patience| now.checked_add(patience))].into_iter().flatten().min()
    }

    /// Whether there may be another attempt after one that was not made in time.
    pub(crate) fn is_again(&self, deadline: Option<Instant>, now: Instant) -> bool {
        self.patience.is_some() && deadline.is_none_or(|deadline| now < deadline)
    }
}

impl FullQueue {
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
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_millis(320);

fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

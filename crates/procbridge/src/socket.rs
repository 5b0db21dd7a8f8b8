//! Sockets that never block: what can be done with one at once; the same for both faces, which wait in their own ways.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
    Nothing,
}

/// An accepted connection and, over TCP, where it comes from.
pub(crate) type Accepted = (OwnedFd, Option<SocketAddr>);

impl Read {
    /// What the result of [`receive`] means.
    pub(crate) fn of(received: io::Result<usize>) -> io::Result<Self> {
        match received {
            Ok(0) => Ok(Self::End),
            Ok(count) => Ok(Self::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Self::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Appends what has arrived to `buffer`, as far as it has room.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        return match rustix::net::recv(&socket, spare_capacity(buffer), RecvFlags::empty()) {
            Ok((_, count)) => Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Writes what the socket takes of `bytes`.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => continue,
            result => Ok(result?),
        };
    }
}

/// What the result of [`send`] means: 0 when the socket takes nothing now.
pub(crate) fn sent(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Tells the peer that nothing more will be written.
pub(crate) fn finish_writing(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// Takes the next connection of a listening socket.
pub(crate) fn accept(listening: impl AsFd) -> Result<Accepted, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, address) = rustix::net::acceptfrom_with(listening, flags)?;
    Ok((socket, address.and_then(|address| SocketAddr::try_from(address).ok())))
}

/// Ends listening: who connects from now on is refused, and whoever waits in accept returns.
pub(crate) fn stop_listening(listening: impl AsFd) {
    let _ = rustix::net::shutdown(listening, Shutdown::Both);
}

//! What can be done with a socket at once; the same for both faces, which wait in their own ways. Whether a socket blocks
//! matters to [`receive_waiting`] only.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
    Nothing,
}

/// A connected socket of either face.
pub(crate) trait Socket: AsFd + Send + Sync + fmt::Debug {}

impl<T: AsFd + Send + Sync + fmt::Debug> Socket for T {}

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

/// Appends what has arrived to `buffer`, as far as it has room, without waiting.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

/// Appends what arrives to `buffer`, as far as it has room. On a socket that [blocks](set_blocking), as accepted ones do, it
/// waits for the first of it, as long as the socket's [limit](set_receive_timeout) allows.
pub(crate) fn receive_waiting(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    receive_with(socket, buffer, RecvFlags::empty())
}

fn receive_with(socket: impl AsFd, buffer: &mut Vec<u8>, flags: RecvFlags) -> io::Result<usize> {
    loop {
        return match rustix::net::recv(&socket, spare_capacity(buffer), flags) {
            Ok((_, count)) => Ok(count),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Whether there is something to read: bytes, the end, or an error.
pub(crate) fn has_input(socket: impl AsFd) -> bool {
    let peeked = rustix::net::recv(&socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !matches!(peeked, Err(Errno::AGAIN | Errno::INTR))
}

/// Whether the peer has closed its end for good, or the connection has failed. A TCP peer that has closed looks as one
/// that only sends no more, until it resets: `is_pressed` takes the one for the other.
pub(crate) fn is_gone(socket: impl AsFd, is_pressed: bool) -> bool {
    let half = if is_pressed { PollFlags::RDHUP } else { PollFlags::empty() };
    let mut sockets = [PollFd::new(&socket, half)];
    let looked = rustix::event::poll(&mut sockets, Some(&Timespec::default()));
    let gone = PollFlags::HUP | PollFlags::ERR | half;
    looked.is_ok() && sockets.iter().any(|socket| socket.revents().intersects(gone))
}

/// Writes what the socket takes of `bytes`, without waiting.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
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

/// Has [`receive_waiting`] wait. Everything else here goes on not to.
pub(crate) fn set_blocking(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, false)?)
}

/// How long [`receive_waiting`] waits.
pub(crate) fn set_receive_timeout(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_timeout(socket, Timeout::Recv, Some(limit))?)
}

/// Has small packets go out at once over TCP. Nothing happens to a Unix socket.
pub(crate) fn set_no_delay(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
}

/// Has a Unix socket take more at a time of what is large: so the two sides write and read at the same time instead of in
/// turns. The memory is the system's, as long as something is on its way. TCP sees to that itself.
pub(crate) fn enlarge_buffers(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, LARGE_BUFFER);
}

/// Ends both directions: whoever waits to read returns.
pub(crate) fn stop(socket: impl AsFd) {
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// Takes the next connection of a listening socket.
pub(crate) fn accept(listening: impl AsFd) -> Result<Accepted, Errno> {
    let (socket, address) = rustix::net::acceptfrom_with(listening, SocketFlags::CLOEXEC)?;
    Ok((socket, address.and_then(|address| SocketAddr::try_from(address).ok())))
}

/// Ends listening: who connects from now on is refused, and whoever waits in accept returns.
pub(crate) fn stop_listening(listening: impl AsFd) {
    let _ = rustix::net::shutdown(listening, Shutdown::Both);
}

/// Returns how many connections a server may have beside what else the process opens: seven eighths of the descriptors that
/// the system lets it have.
pub(crate) fn most_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    (descriptors - descriptors / 8).max(1)
}

/// What a widened socket takes, in bytes.
const LARGE_BUFFER: usize = 512 * 1024;

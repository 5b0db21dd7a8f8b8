//! The operations on a socket, without blocking. Both faces share them and add how they wait. Whether a socket blocks
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

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
    Nothing,
}

/// A connected socket of either face.
pub(crate) trait Socket: AsFd + Send + Sync + fmt::Debug {}

impl<T: AsFd + Send + Sync + fmt::Debug> Socket for T {}

/// An accepted connection and, over TCP, its address.
pub(crate) type Accepted = (OwnedFd, Option<SocketAddr>);

impl Read {
    /// Returns the meaning of what [`receive`] returned.
    pub(crate) fn of(received: io::Result<usize>) -> io::Result<Self> {
        match received {
            Ok(0) => Ok(Self::End),
            Ok(count) => Ok(Self::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Self::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Appends what has arrived to `buffer`, as far as its capacity goes, without waiting.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

/// Appends what arrives to `buffer`, as far as its capacity goes.
///
/// # Blocking
///
/// On a [blocking](set_blocking) socket, as accepted ones are, it waits for the first bytes until the socket's [receive
/// timeout](set_receive_timeout).
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

/// Whether the peer has closed its end for good, or the connection has failed.
///
/// Until it resets, a TCP peer that has closed looks like one that has only shut its sending side down. With
/// `is_scarce` both count as gone.
pub(crate) fn is_gone(socket: impl AsFd, is_scarce: bool) -> bool {
    let half = if is_scarce { PollFlags::RDHUP } else { PollFlags::empty() };
    let mut sockets = [PollFd::new(&socket, half)];
    let polled = rustix::event::poll(&mut sockets, Some(&Timespec::default()));
    let gone = PollFlags::HUP | PollFlags::ERR | half;
    polled.is_ok() && sockets.iter().any(|socket| socket.revents().intersects(gone))
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

/// Returns the meaning of what [`send`] returned: 0 if the socket is full.
pub(crate) fn sent(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// Shuts the sending side down: the peer reads the end of the stream.
pub(crate) fn finish_writing(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// Makes [`receive_waiting`] wait. All other functions here still do not.
pub(crate) fn set_blocking(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, false)?)
}

/// Sets how long [`receive_waiting`] waits.
pub(crate) fn set_receive_timeout(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_timeout(socket, Timeout::Recv, Some(limit))?)
}

/// Sends small packets at once over TCP. Does nothing to a Unix socket.
pub(crate) fn set_no_delay(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
}

/// Enlarges the send buffer of a Unix socket for large messages: both sides then write and read at the same time, not
/// alternately. The system uses the memory only while data is in flight. TCP sizes its buffers itself.
pub(crate) fn enlarge_buffers(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, LARGE_BUFFER);
}

/// Shuts both directions down: a thread that waits to read returns. Drops what has arrived and was not read. Closing a
/// TCP socket with such bytes resets the connection, and the peer would lose answers that it has not read.
pub(crate) fn stop(socket: impl AsFd) {
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
    let mut dropped = [0; DROPPED_AT_ONCE];
    for _ in 0..MOST_DROPPED / DROPPED_AT_ONCE {
        match rustix::net::recv(&socket, &mut dropped, RecvFlags::DONTWAIT) {
            Ok((count, _)) if count > 0 => {}
            _ => break,
        }
    }
    let _ = rustix::net::shutdown(&socket, Shutdown::Both);
}

/// Accepts the next connection of a listening socket.
pub(crate) fn accept(listening: impl AsFd) -> Result<Accepted, Errno> {
    let (socket, address) = rustix::net::acceptfrom_with(listening, SocketFlags::CLOEXEC)?;
    Ok((socket, address.and_then(|address| SocketAddr::try_from(address).ok())))
}

/// Stops listening: new connections are refused, and a thread that waits in accept returns.
pub(crate) fn stop_listening(listening: impl AsFd) {
    let _ = rustix::net::shutdown(listening, Shutdown::Both);
}

/// Returns how many connections a server may have besides other open files of the process: seven eighths of its
/// descriptor limit.
pub(crate) fn most_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    (descriptors - descriptors / 8).max(1)
}

/// Bytes that are dropped at a time, and in all, when a connection ends. A peer that has sent more is not done.
const DROPPED_AT_ONCE: usize = 4 * 1024;
const MOST_DROPPED: usize = 1024 * 1024;
/// The enlarged send buffer, in bytes.
const LARGE_BUFFER: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_last_answer_arrives_although_the_peer_has_sent_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for more in [1, 100_000] {
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            peer.write_all(&vec![7; more]).unwrap();
            server.write_all(b"the answer").unwrap();
            stop(&server);
            drop(server);
            let mut answer = String::new();
            peer.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "the answer");
        }
    }
}

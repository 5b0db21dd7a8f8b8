//! One connected socket: reads and writes that never block, and one place that waits.
//!
//! Waiting is apart from reading and writing so that a time limit costs one `poll` and no socket option, and so that
//! a full answer never waits for anything.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use crate::endpoint::{Address, Endpoint};
use crate::error::{Error, ErrorKind};

/// A connected socket that does not block.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
}

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Read,
    Write,
    Either,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    End,
    Nothing,
}

impl Stream {
    pub(super) fn accepted(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Connects; all addresses of a name share the time until `deadline`.
    pub(super) fn connect(endpoint: &Endpoint, deadline: Option<Instant>) -> Result<Self, Error> {
        match &endpoint.address {
            Address::Path { path, .. } => Self::connect_unix(endpoint, SocketAddrUnix::new(path), deadline),
            Address::Abstract(name) => {
                Self::connect_unix(endpoint, SocketAddrUnix::new_abstract_name(name.as_bytes()), deadline)
            }
            Address::Tcp { host, port } => {
                let addresses = resolve(endpoint, host, *port, deadline)?;
                let mut result = Err(cannot(endpoint, io::Error::from(io::ErrorKind::NotFound)));
                for (tried, address) in addresses.iter().enumerate() {
                    let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
                    let now = Instant::now();
                    let share = deadline.map(|deadline| now + deadline.saturating_duration_since(now) / left);
                    match Self::connect_tcp(*address, share) {
                        Ok(stream) => return Ok(stream),
                        // The first address is the preferred one: its error is the one to tell.
                        Err(error) if tried == 0 => result = Err(cannot(endpoint, error)),
                        Err(_) => {}
                    }
                }
                result
            }
        }
    }

    fn connect_tcp(address: SocketAddr, deadline: Option<Instant>) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let stream = Self { socket: socket(family)? };
        match rustix::net::connect(&stream.socket, &address) {
            Ok(()) => Ok(stream),
            Err(Errno::INPROGRESS | Errno::INTR) => {
                if !stream.wait(Readiness::Write, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                rustix::net::sockopt::socket_error(&stream.socket)??;
                Ok(stream)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn connect_unix(
        endpoint: &Endpoint,
        address: Result<SocketAddrUnix, Errno>,
        deadline: Option<Instant>,
    ) -> Result<Self, Error> {
        let mut pause = Duration::from_micros(200);
        let connect = || -> Result<Self, Errno> {
            let stream = Self { socket: socket(AddressFamily::UNIX)? };
            rustix::net::connect(&stream.socket, address.as_ref().map_err(|error| *error)?)?;
            Ok(stream)
        };
        loop {
            match connect() {
                Ok(stream) => return Ok(stream),
                // The queue of the listener is full. There is nothing to poll for; the kernel has no event for it.
                Err(Errno::AGAIN) => {
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    if left == Some(Duration::ZERO) {
                        return Err(cannot(endpoint, io::ErrorKind::TimedOut.into()));
                    }
                    thread::sleep(left.map_or(pause, |left| left.min(pause)));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(cannot(endpoint, error.into())),
            }
        }
    }

    /// Appends what has arrived to `buffer`, as far as it has room.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        loop {
            return match rustix::net::recv(&self.socket, spare_capacity(buffer), RecvFlags::empty()) {
                Ok((_, 0)) => Ok(Read::End),
                Ok((_, count)) => Ok(Read::Bytes(count)),
                Err(Errno::AGAIN) => Ok(Read::Nothing),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Writes what the socket takes of `bytes`; 0 when it takes nothing now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            return match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => Ok(count),
                Err(Errno::AGAIN) => Ok(0),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Tells the peer that nothing more will be written.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.socket, Shutdown::Write)?)
    }

    /// Waits until the socket is ready, or has failed, or `deadline` has passed: then false.
    pub(super) fn wait(&self, readiness: Readiness, deadline: Option<Instant>) -> io::Result<bool> {
        let flags = match readiness {
            Readiness::Read => PollFlags::IN,
            Readiness::Write => PollFlags::OUT,
            Readiness::Either => PollFlags::IN | PollFlags::OUT,
        };
        wait_for(&mut [PollFd::new(&self.socket, flags)], deadline)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of `sockets` is ready, or `deadline` has passed: then false.
pub(super) fn wait_for(sockets: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        return match poll(sockets, limit.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// The addresses of a name. The system's resolver knows no time limit, so it is asked on a thread of its own.
fn resolve(
    endpoint: &Endpoint,
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<Vec<SocketAddr>, Error> {
    if let Some(addresses) = Endpoint::resolve_locally(host, port) {
        return Ok(addresses);
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_string();
    let ask = move || sender.send(Endpoint::resolve(&name, port));
    thread::Builder::new()
        .name("procbridge-resolve".to_string())
        .spawn(ask)
        .map_err(|error| cannot(endpoint, error))?;
    let answer = match deadline {
        Some(deadline) => receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
        None => receiver.recv().ok(),
    };
    let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    answer.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => cannot(endpoint, error),
        _ => {
            let message = format!("cannot connect to {endpoint}: no address for {host:?}");
            Error::new(ErrorKind::Connect, message).with_source(error)
        }
    })
}

fn socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

fn cannot(endpoint: &Endpoint, error: io::Error) -> Error {
    crate::error::cannot_connect(endpoint, error)
}

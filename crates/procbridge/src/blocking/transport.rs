//! One connected socket: reads and writes that never block, and the methods that wait.
//!
//! Waiting is separate from reading and writing, so that a complete answer never waits. A short wait still happens
//! inside the read, with a receive timeout set on the socket. `poll` would set a timer of the clock's resolution. For a
//! short wait this usually reprograms the processor's timer, which costs more than the rest of the wait. See decision
//! 0001.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::blocking::thread_pool::spawn;
use crate::client::connections::OneShotPermit;
use crate::endpoint::{Address, Endpoint};
use crate::error::Error;
use crate::net::connect::{self, BacklogRetry, Connecting, SynRetry};
use crate::net::socket::{self, Read};
use crate::peer::Peer;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Transport {
    socket: OwnedFd,
}

/// The readiness that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Read,
    Write,
    Either,
}

impl Transport {
    pub(super) fn accepted(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Connects; all addresses of a name share the time until `deadline`. Refuses a Unix socket whose server runs as a
    /// user that the client [does not trust](Endpoint::check_server). Reports the outcome to `permit`.
    pub(super) fn connect(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        sends_token: bool,
        permit: &mut OneShotPermit<'_>,
    ) -> Result<(Self, Peer), Error> {
        let connected = Self::connect_to(endpoint, deadline, sends_token, permit);
        match &connected {
            Ok(_) => permit.on_connected(),
            Err(_) => permit.on_refused(),
        }
        connected
    }

    fn connect_to(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        sends_token: bool,
        permit: &mut OneShotPermit<'_>,
    ) -> Result<(Self, Peer), Error> {
        let Address::Tcp { host, port } = &endpoint.address else {
            let socket = Self::connect_unix(endpoint, deadline, permit)
                .map_err(|error| connect::cannot_connect(endpoint, error))?;
            let peer = connect::unix_server(endpoint, &socket, sends_token)?;
            return Ok((Self { socket }, peer));
        };
        let addresses = resolve(endpoint, host, *port, deadline)?;
        let mut result = Err(connect::cannot_connect(endpoint, io::Error::from(io::ErrorKind::NotFound)));
        for (tried, address) in addresses.iter().enumerate() {
            let share = connect::attempt_deadline(deadline, Instant::now(), addresses.len() - tried);
            match Self::connect_tcp(*address, share, permit) {
                Ok(connected) => return Ok(connected),
                // The first address is the preferred one, so its error is reported.
                Err(error) if tried == 0 => result = Err(connect::cannot_connect(endpoint, error)),
                Err(_) => {}
            }
        }
        result
    }

    fn connect_tcp(
        address: SocketAddr,
        deadline: Option<Instant>,
        permit: &mut OneShotPermit<'_>,
    ) -> io::Result<(Self, Peer)> {
        let mut dropped = SynRetry::new(&address);
        loop {
            let (stream, is_there) = match connect::tcp(address)? {
                Connecting::Connected(socket) => (Self { socket }, true),
                Connecting::Begun(socket) => {
                    let stream = Self { socket };
                    let is_there = stream.wait(Readiness::Write, dropped.next(deadline, Instant::now()))?;
                    if is_there {
                        connect::check(&stream.socket)?;
                    }
                    (stream, is_there)
                }
            };
            if is_there {
                let peer = connect::tcp_server(&stream.socket, address)?;
                return Ok((stream, peer));
            }
            if !dropped.is_again(deadline, Instant::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            permit.on_refused();
        }
    }

    fn connect_unix(
        endpoint: &Endpoint,
        deadline: Option<Instant>,
        permit: &mut OneShotPermit<'_>,
    ) -> io::Result<OwnedFd> {
        let mut queue = BacklogRetry::new();
        loop {
            match connect::unix(endpoint) {
                Ok(socket) => return Ok(socket),
                Err(Errno::AGAIN) => {
                    permit.on_refused();
                    thread::sleep(queue.pause(deadline, Instant::now()).ok_or(io::ErrorKind::TimedOut)?);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Appends what has arrived to `buffer`, up to its capacity.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        Read::of(socket::receive(&self.socket, buffer))
    }

    /// Sets the receive timeout of [`read_soon`](Self::read_soon).
    pub(super) fn limit_wait(&self, limit: Duration) -> io::Result<()> {
        socket::set_receive_timeout(&self.socket, limit)
    }

    /// Appends what arrives to `buffer`, up to its capacity. On an accepted socket it waits for input, within its
    /// [receive timeout](Self::limit_wait).
    pub(super) fn read_soon(&self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        Read::of(socket::receive_waiting(&self.socket, buffer))
    }

    /// Writes what the socket takes of `bytes`; returns 0 if it takes nothing now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        socket::sent(socket::send(&self.socket, bytes))
    }

    /// Tells the peer that no more bytes follow.
    pub(super) fn finish_writing(&self) -> io::Result<()> {
        socket::finish_writing(&self.socket)
    }

    /// Waits until the socket is ready or has failed. Returns false if `deadline` passed first.
    pub(super) fn wait(&self, readiness: Readiness, deadline: Option<Instant>) -> io::Result<bool> {
        let flags = match readiness {
            Readiness::Read => PollFlags::IN,
            Readiness::Write => PollFlags::OUT,
            Readiness::Either => PollFlags::IN | PollFlags::OUT,
        };
        wait_for(&mut [PollFd::new(&self.socket, flags)], deadline)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of `sockets` is ready. Returns false if `deadline` passed first.
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

/// Resolves a name. The system's resolver has no timeout, so it runs on a thread of its own.
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
    // The caller may have timed out, and the receiver be gone.
    let ask = move || drop(sender.send(Endpoint::resolve(&name, port)));
    spawn("procbridge-resolve", ask).map_err(|error| connect::cannot_connect(endpoint, error))?;
    let answer = match deadline {
        Some(deadline) => receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
        None => receiver.recv().ok(),
    };
    let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    answer.map_err(|error| connect::unresolved(endpoint, host, error))
}
